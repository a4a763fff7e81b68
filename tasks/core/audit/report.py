"""What an audit found, and its verdict."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.core.audit.entries import AuditFinding
from tasks.core.audit.signatures import Signed
from tasks.core.text import cell, counted


@dataclass(frozen=True, slots=True)
class Loads:
    """Whether a version loads here, in this environment, and gives its known answers."""

    version: int
    loads: bool
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit of one model found."""

    model: str
    objects: int
    """That the store lists for the model."""
    bytes: int
    """That were read and compared with what was recorded."""
    pages: int
    """Objects of runs whose digest nothing records, as reports: whether they are what they were cannot be said."""
    versions: int
    """Complete ones."""
    events: int
    head: str | None
    """`42:<sha256>`: number and digest of the newest entry, to be noted; None where there is none to rely on."""
    remarks: tuple[AuditFinding, ...] = ()
    """Damage first."""
    signed: Signed | None = None
    """None where no key is trusted: signatures are not looked at."""
    loads: tuple[Loads, ...] | None = None
    """None where it was not asked for."""

    @property
    def damage(self) -> tuple[AuditFinding, ...]:
        """What is wrong."""
        return tuple(remark for remark in self.remarks if remark.damage)

    @property
    def notes(self) -> tuple[AuditFinding, ...]:
        """What is harmless, and worth knowing."""
        return tuple(remark for remark in self.remarks if not remark.damage)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damage


def verdict(report: Report) -> str:
    """One line: what was looked at, and whether all is well."""
    pages = f"; of {counted(report.pages, 'page')} no digest is recorded" if report.pages else ""
    looked = (
        f"{counted(report.objects, 'object')} ({report.bytes / 1e6:,.1f} MB compared{pages}), "
        f"{counted(report.versions, 'version')}, {counted(report.events, 'entry', 'entries')} of history"
    )
    notes = f" ({counted(len(report.notes), 'note')})" if report.notes else ""
    said = "all is well" if report.ok else f"{len(report.damage):,} damaged or missing"
    return f"{report.model}: {looked}: {said}{notes}."


def signed(report: Report) -> str:
    """What the signatures are worth, in words."""
    if report.signed is None:
        return "Signatures were not looked at: no key is trusted here."
    refused = "refused here" if report.signed.required else "accepted here"
    return (
        f"Signed by a trusted key: {report.signed.signed:,} of {report.signed.signed + report.signed.unsigned:,} "
        f"manifests and entries; what is not signed is {refused}, unless a signed entry follows."
    )


def summary(report: Report) -> str:
    """The verdict, and all that is damaged: the message of the flow's final state."""
    return " ".join([verdict(report), *(f"{remark.path} {remark.text.rstrip('.')}." for remark in report.damage)])


def markdown(report: Report) -> str:
    """The whole report, for Prefect."""
    lines = [
        f"## {cell(verdict(report))}",
        "",
        f"Newest entry of the history: `{report.head or 'none'}`",
        signed(report),
    ]
    if report.remarks:
        lines += ["", "| | object | what |", "|---|---|---|"]
        lines += [
            f"| {'**damage**' if item.damage else 'note'} | {cell(item.path)} | {cell(item.text)} |"
            for item in report.remarks
        ]
    if report.loads is not None:
        lines += ["", "| version | loads here | why not |", "|---|---|---|"]
        lines += [
            f"| v{item.version} | {'yes' if item.loads else '**no**'} | {cell(item.why_not)} |" for item in report.loads
        ]
    return "\n".join(lines) + "\n"
