"""The page that `evaluate --report` writes: one HTML file that needs nothing else."""

from lightning_gen.commands.report.page import Entry, write_report

__all__ = ["Entry", "write_report"]
