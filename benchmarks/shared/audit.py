"""The audit of released code: base rows, and the defects that are switched on."""

from __future__ import annotations

from typing import Any

#: the audit of released code: base row -> (method, its settings, defect -> what switches it on)
AUDITS: dict[str, tuple[str, dict[str, Any], dict[str, dict[str, Any]]]] = {
    "cpsc": (
        "cpsc",
        {},
        {
            "G's Adam rebuilt": {"g_optimizer": "rebuilt"},
            "adapter never trained": {"adapter": "frozen"},
            "BatchNorm of S does not drift": {"student_bn": "eval"},
            "double softmax": {"ce": "softmax"},
            "log losses": {"l2": "log_if_10"},
        },
    ),
    "dfad": ("dfad", {}, {"teacher as student": {"rival": "teacher"}}),
    "zskt": ("zskt", {}, {"teacher as student": {"rival": "teacher"}}),
    "dfq": ("dfq", {}, {"teacher as student": {"rival": "teacher"}}),
    "deepinversion": ("deepinversion", {}, {"best image aliased": {"keep": "after"}}),
    "adi": ("adi", {}, {"JS clamped": {"js": "clamped"}}),
    "fast, k = 2": ("fast", {"g_steps": 2}, {"images before the last step": {"keep": "best"}}),
}


#: its rows, corrected ones first, and defect's row -> the row that it is measured against
AUDIT_ROWS = {base: (method, own) for base, (method, own, _) in AUDITS.items()} | {
    f"{base}: {defect}": (method, own | switch)
    for base, (method, own, switches) in AUDITS.items()
    for defect, switch in switches.items()
}


AUDIT_CONTRASTS = {f"{base}: {d}": base for base, (_, _, switches) in AUDITS.items() for d in switches}
