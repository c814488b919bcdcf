"""engines/README.md out of the manifests: `python -m training.engines_table`."""

from pathlib import Path

from rtsr.manifest import Manifest, installed_engines

HEAD = """# Engines

Made by `python -m training.engines_table` from the manifests in this folder; do not edit. PSNR-Y in dB, SSIM-Y behind
the slash, on the standard LR files (BT.601 luma, border of `scale` pixels shaved), measured through the exported engine
under OpenVINO by `python -m training.evaluate`. MACs are per LR pixel. *stream* engines are trained for coded video,
so the benchmark sets (bicubic, uncoded) undersell them: look at the table of real video.
"""
SETS = ("Set5", "Set14", "BSD100")
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
    size = f"{engine.parameters / 1000:.1f} K | {engine.macs_per_lr_pixel / 1000:.1f} K"
    return f"| {engine.name} | {size} | {' | '.join(cells)} | {'' if loss is None else f'{loss:.3f}'} |"


def clip_rows(engine: Manifest) -> list[str]:
    clips = engine.quality.get("clips", {})
    return [
        f"| {engine.name} | {clip} | {db['engine']:.2f} | {db['bicubic']:.2f} | {db['lanczos']:.2f} |"
        for clip, db in clips.items()
    ]


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
    lines = [
        HEAD,
        "| engine | parameters | MACs | Set5 | Set14 | BSD100 | int8 loss, dB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [quality_row(engine) for engine in ladder]
    clips = [row for engine in ladder if engine.output == "phases" for row in clip_rows(engine)]
    if clips:
        lines += [
            "",
            "Real video, shrunk by the scale and coded by x264; PSNR-Y against the original frames, in dB:",
            "",
        ]
        lines += ["| engine | clip | engine | bicubic | Lanczos |", "|---|---|---|---|---|", *clips]
    if systems:
        lines += [
            SYSTEMS,
            "| engine | parameters | MACs | PSNR-Y | distance | NIQE | flicker |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [system_row(engine) for engine in systems]
        lines += ["", "Set5 from LR made by three kernels, PSNR-Y:", "", "| engine | nearest | bilinear | bicubic |"]
        lines += ["|---|---|---|---|", *kernel_rows(systems)]
    return "\n".join(lines) + "\n"


def main() -> None:
    folder = Path("engines")
    (folder / "README.md").write_text(table(installed_engines(folder)))
    print(f"{folder / 'README.md'} written")


if __name__ == "__main__":
    main()
