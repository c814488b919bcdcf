"""engines/README.md out of the manifests: `python -m training.engines_table`."""

from pathlib import Path

from rtsr.manifest import Manifest, installed_engines

HEAD = """# Engines

Made by `python -m training.engines_table` from the manifests in this folder; do not edit. PSNR-Y in dB, SSIM-Y behind
the slash, on the standard LR files (BT.601 luma, border of `scale` pixels shaved), measured through the exported engine
under OpenVINO by `python -m training.evaluate`. MACs are per LR pixel. ms: one frame of 640x360 through the engine
alone, all cores, median (`python -m training.quality --speed`; {machine}). *stream* engines are trained for coded
video, so the benchmark sets (bicubic, uncoded) undersell them: look at the table of real video. Each float engine also
exists as `-planes`, the same net for other runtimes.
"""
SETS = ("Set5", "Set14", "BSD100")
RIVALS = ("engine", "bicubic", "lanczos")
CLIPS = """
Real video (two clips, shrunk by the scale, coded by x264 at CRF 23 and 28 and by x265 at 28), PSNR-Y in dB / VMAF-NEG
against the original frames, means over clips and encodes. *clean*: the engine of the same tier trained without a codec.
*Flicker*: of a static shot with sensor noise, coded, against bicubic.
"""
ENDS = """
## From fidelity to detail

What `--detail` moves between, Set5 / Set14 / BSD100. *Distance*, *NIQE* and *flicker* are explained below.
"""
SYSTEM_HEAD = [
    "| engine | parameters | MACs | PSNR-Y | distance | NIQE | flicker |",
    "|---|---|---|---|---|---|---|",
]
SYSTEMS = """
## The systems rtsr descends from

RGB generators, trained here in minutes on two CPU cores (training/LOG.md): not the published weights, and far from the
published lengths. Figures are those of Set5 / Set14 / BSD100. *Distance* is `squeeze_distance` (training/distance.py:
LPIPS's construction on SqueezeNet, without LPIPS's learned weights; lower is closer; bicubic has 0.387 / 0.520 /
0.588). *NIQE* uses a model of its own (training/niqe.py; bicubic 8.62 / 8.35 / 8.21). *Flicker*: of a static shot,
against bicubic.
"""


def quality_row(engine: Manifest) -> str:
    psnr, ssim = engine.quality.get("psnr_y", {}), engine.quality.get("ssim_y", {})
    cells = [f"{psnr[name]:.2f} / {ssim[name]:.4f}" if name in psnr else "" for name in SETS]
    loss = engine.quality.get("int8_loss_db")
    size = f"{engine.tier} | {engine.scale} | {engine.macs_per_lr_pixel / 1000:.1f} K"
    return (
        f"| {engine.name} | {size} | {' | '.join(cells)} | {'' if loss is None else f'{loss:.3f}'} | {speed(engine)} |"
    )


def speed(engine: Manifest) -> str:
    """Milliseconds for 640x360; a planes engine is for other machines."""
    return " ".join(f"{ms:.1f}" for ms in engine.quality.get("ms_640x360", {}).values())


def clip_rows(engine: Manifest) -> list[str]:
    """PSNR-Y and VMAF-NEG of each clip."""
    rows = []
    for clip, found in engine.quality.get("clips", {}).items():
        cells = [f"{found[who]:.2f} / {found.get(f'{who}_vmaf_neg', float('nan')):.1f}" for who in RIVALS]
        rows.append(f"| {engine.name} | {clip} | {' | '.join(cells)} |")
    return rows


def means_row(engine: Manifest) -> str:
    """Means over all clips, and how far the engine lies above its clean twin."""
    found = engine.quality["clips_mean"]
    cells = [
        f"{found[who]:.2f} / {found.get(f'{who}_vmaf_neg', float('nan')):.1f}" if who in found else ""
        for who in (*RIVALS, "clean")
    ]
    above = [
        f"{found[f'engine{key}'] - found[f'clean{key}']:+.2f}" for key in ("", "_vmaf_neg") if f"clean{key}" in found
    ]
    return f"| {engine.name} | {' | '.join(cells)} | {' / '.join(above)} | {engine.quality.get('flicker', '')} |"


def recipe_row(engine: Manifest) -> str:
    return f"| {engine.name} | `{engine.recipe}` | {engine.commit[:12]} |"


def system_row(engine: Manifest) -> str:
    size = f"{engine.parameters / 1000:.0f} K | {engine.macs_per_lr_pixel / 1000:.0f} K"
    cells = [
        triple(engine, key, form) for key, form in (("psnr_y", ".2f"), ("squeeze_distance", ".3f"), ("niqe", ".2f"))
    ]
    return f"| {engine.name} | {size} | {' | '.join(cells)} | {engine.quality.get('flicker', '')} |"


def triple(engine: Manifest, key: str, form: str) -> str:
    """One figure over the three sets."""
    found = engine.quality.get(key, {})
    return " / ".join(f"{found[name]:{form}}" for name in SETS if name in found)


def kernel_rows(engines: list[Manifest]) -> list[str]:
    found = {engine.name: engine.quality.get("kernels_psnr_y", {}) for engine in engines}
    return [f"| {name} | {' | '.join(f'{db:.2f}' for db in dbs.values())} |" for name, dbs in found.items() if dbs]


def table(engines: list[Manifest]) -> str:
    ladder, systems = ([e for e in engines if e.rgb == rgb] for rgb in (False, True))
    machines = sorted({name for e in engines for name in e.quality.get("ms_640x360", {})})
    lines = [
        HEAD.format(machine=", ".join(machines) or "not measured"),
        "| engine | tier | scale | MACs | Set5 | Set14 | BSD100 | int8 loss, dB | ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [quality_row(engine) for engine in ladder if not engine.name.endswith("-planes")]
    coded = [e for e in ladder if e.output == "phases" and "clips_mean" in e.quality]
    if coded:
        lines += [
            CLIPS,
            f"| engine | engine | {' | '.join(RIVALS[1:])} | clean | above clean | flicker |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [means_row(engine) for engine in coded]
        lines += ["", "The int8 engines clip by clip:", "", f"| engine | clip | {' | '.join(RIVALS)} |"]
        lines += ["|---|---|---|---|---|", *(row for e in coded if e.precision == "int8" for row in clip_rows(e))]
    with_detail = {e.kind for e in ladder if e.detail}
    ends = [e for e in ladder if e.kind in with_detail and e.output == "phases" and "squeeze_distance" in e.quality]
    if ends:
        lines += [ENDS, *SYSTEM_HEAD, *(system_row(engine) for engine in ends)]
    if systems:
        lines += [SYSTEMS, *SYSTEM_HEAD, *(system_row(engine) for engine in systems)]
        lines += ["", "Set5 from LR made by three kernels, PSNR-Y:", "", "| engine | nearest | bilinear | bicubic |"]
        lines += ["|---|---|---|---|", *kernel_rows(systems)]
    lines += ["", "## How each was made", "", "| engine | command | commit |", "|---|---|---|"]
    lines += [recipe_row(engine) for engine in engines if engine.rgb or not engine.name.endswith("-planes")]
    return "\n".join(lines) + "\n"


def main() -> None:
    folder = Path("engines")
    (folder / "README.md").write_text(table(installed_engines(folder)))
    print(f"{folder / 'README.md'} written")


if __name__ == "__main__":
    main()
