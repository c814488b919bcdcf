"""engines/README.md out of the manifests: `python -m training.engines_table`."""

from pathlib import Path

from rtsr.manifest import Manifest, installed_engines

HEAD = """# Engines

Made by `python -m training.engines_table` from the manifests in this folder; do not edit. PSNR-Y in dB, SSIM-Y behind
the slash, on the standard LR files (BT.601 luma, border of `scale` pixels shaved), measured through the exported engine
under OpenVINO by `python -m training.evaluate`. MACs are per LR pixel. *stream* engines are trained for coded video,
so the benchmark sets (bicubic, uncoded) undersell them: look at the second table.
"""


def quality_row(engine: Manifest) -> str:
    psnr, ssim = engine.quality.get("psnr_y", {}), engine.quality.get("ssim_y", {})
    cells = [f"{psnr[name]:.2f} / {ssim[name]:.4f}" if name in psnr else "" for name in ("Set5", "Set14", "BSD100")]
    loss = engine.quality.get("int8_loss_db")
    size = f"{engine.parameters / 1000:.1f} K | {engine.macs_per_lr_pixel / 1000:.1f} K"
    return f"| {engine.name} | {size} | {' | '.join(cells)} | {'' if loss is None else f'{loss:.3f}'} |"


def clip_rows(engine: Manifest) -> list[str]:
    clips = engine.quality.get("clips", {})
    return [
        f"| {engine.name} | {clip} | {db['engine']:.2f} | {db['bicubic']:.2f} | {db['lanczos']:.2f} |"
        for clip, db in clips.items()
    ]


def table(engines: list[Manifest]) -> str:
    lines = [
        HEAD,
        "| engine | parameters | MACs | Set5 | Set14 | BSD100 | int8 loss, dB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [quality_row(engine) for engine in engines]
    clips = [row for engine in engines if engine.output == "phases" for row in clip_rows(engine)]
    if clips:
        lines += [
            "",
            "Real video, shrunk by the scale and coded by x264; PSNR-Y against the original frames, in dB:",
            "",
        ]
        lines += ["| engine | clip | engine | bicubic | Lanczos |", "|---|---|---|---|---|", *clips]
    return "\n".join(lines) + "\n"


def main() -> None:
    folder = Path("engines")
    (folder / "README.md").write_text(table(installed_engines(folder)))
    print(f"{folder / 'README.md'} written")


if __name__ == "__main__":
    main()
