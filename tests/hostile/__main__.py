"""`python -m tests.hostile [WORD ...]`: what every hostile input gave, as a table."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.hostile.cases import CASES
from tests.hostile.stage import staged


def main() -> None:
    """Try them, print a line each, count; exit status 1 if any is unclean."""
    chosen = [case for case in CASES if all(word in case.id for word in sys.argv[1:])]
    unclean: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="agl-hostile-") as folder, staged(Path(folder)) as stage:
        print("| room | input | exit | seconds | unclean | said |\n|---|---|---|---|---|---|")
        for case in chosen:
            outcome = stage.run(case)
            faults = ", ".join(outcome.faults(case))
            unclean[case.room] += bool(faults)
            said = outcome.sentence.replace("|", "\\|")[:200]
            row = (case.room, case.name, str(outcome.code), f"{outcome.seconds:.2f}", faults, said)
            print("| " + " | ".join(row) + " |", flush=True)
    rooms = Counter(case.room for case in chosen)
    print(f"\n{len(chosen)} hostile inputs, {sum(unclean.values())} unclean.")
    print("\n".join(f"  {n:4d} {room}, {unclean[room]} unclean" for room, n in rooms.items()))
    sys.exit(bool(sum(unclean.values())))


if __name__ == "__main__":
    main()
