"""`python -m bench`: measure ours, its peers and the raw loop in one run and print medians with spread."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from bench import environments, machine, stores
from bench.awake import awake
from bench.contender import Contender, all_contenders
from bench.measures import MEASURES, Measure
from bench.report import Result, table
from bench.targets import verdicts
from bench.trial import QUICK, Counts, Trial, TrialFailed

QUIET = 0.15  # cores that other programs may use in a trial of --strict
#: Each step of these waits for a commit to be forced to the disk. While spinners have a virtual machine's
#: processors that takes four times as long (1.05 instead of 0.24 ms), so nothing is kept awake.
FORCED = {"postgres-enqueue", "postgres-trip", "rabbitmq-enqueue", "rabbitmq-bulk", "rabbitmq-delayed"}
TRIES = 4  # trials of --strict until the least disturbed one is taken


def main() -> None:
    options = _options()
    contenders = _chosen([contender.name for contender in all_contenders()], options.contenders, "contender")
    measures = _chosen([measure.name for measure in MEASURES], options.only, "measure")
    racing = [contender for contender in all_contenders() if contender.name in contenders]
    pythons = {
        contender.name: Path(sys.executable) if options.here else environments.python_of(contender)
        for contender in racing
    }
    about = _about(racing, pythons, options)
    print("\n".join(about), flush=True)
    counts = QUICK if options.quick else Counts()
    results: list[Result] = []
    for measure in MEASURES:
        entered = [contender for contender in racing if measure.name in contender.measures]
        if measure.name in measures and entered:
            with nullcontext() if options.let_sleep or measure.name in FORCED else awake():
                results += _compete(measure, entered, pythons, counts, options)
            print("\n" + table(measure, results), flush=True)
    _finish(results, about, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", help="measures, comma-separated; a prefix will do")
    parser.add_argument("--contenders", default="", help="contenders, comma-separated")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, contenders alternating (default 3)")
    parser.add_argument(
        "--quick", action="store_true", help="tiny counts: everything runs, nothing is measured"
    )
    parser.add_argument(
        "--strict", action="store_true", help=f"discard trials with over {QUIET} cores of foreign load"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there too")
    parser.add_argument(
        "--here", action="store_true", help="use this interpreter for every contender, make no environments"
    )
    parser.add_argument("--let-sleep", action="store_true", help="let processors halt between two messages")
    return parser.parse_args()


def _chosen(names: Sequence[str], wanted: str, noun: str) -> set[str]:
    """The names that equal a word of `wanted`, or else begin with it; all when nothing is wanted."""
    chosen: set[str] = set()
    for word in wanted.split(",") if wanted else names:
        found = {name for name in names if name == word} or {name for name in names if name.startswith(word)}
        if not found:
            raise SystemExit(f"no {noun} is called {word!r}: choose from {', '.join(names)}")
        chosen |= found
    return chosen


def _about(
    contenders: Sequence[Contender], pythons: dict[str, Path], options: argparse.Namespace
) -> list[str]:
    lines = [f"{name}: {value}" for name, value in machine.describe().items()]
    if not options.let_sleep:
        lines.append("processors: kept awake by spinners of the lowest priority")
        lines.append(f"processors: left alone in {', '.join(sorted(FORCED))}, which wait for the disk")
    used = dict.fromkeys(contender.store for contender in contenders)
    lines += [f"broker: {stores.version(store)}; {stores.IN_WORDS[store]}" for store in used]
    for contender in contenders:
        versions = environments.versions(pythons[contender.name], contender)
        text = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines.append(f"{contender.name}: {text}; {contender.settings}")
    return lines


def _compete(
    measure: Measure,
    contenders: Sequence[Contender],
    pythons: dict[str, Path],
    counts: Counts,
    options: argparse.Namespace,
) -> list[Result]:
    """All rounds of one measure; the order of the contenders is turned round from one round to the next."""
    results = []
    for number in range(1, options.rounds + 1):
        for contender in contenders if number % 2 else reversed(contenders):
            result = _attempt(measure, contender, pythons[contender.name], counts, number, options.strict)
            results.append(result)
            if not options.quick:
                _tell(result)
    return results


def _attempt(
    measure: Measure, contender: Contender, python: Path, counts: Counts, number: int, strict: bool
) -> Result:
    """One round's trial; with `strict`, the first undisturbed one of a few, or else the least disturbed."""
    seen: list[Result] = []
    for _ in range(TRIES if strict else 1):
        figures: dict[str, float] = {}
        failure = ""
        with machine.ForeignLoad() as load:
            try:
                with Trial(contender, python, counts) as trial:
                    figures = measure.run(trial)
            except TrialFailed as exc:
                failure = str(exc)
        seen.append(Result(measure.name, contender.name, number, figures, load.cores, len(seen), failure))
        if load.cores <= QUIET:
            return seen[-1]
    return min(seen, key=lambda result: result.foreign)._replace(discarded=len(seen) - 1)


def _tell(result: Result) -> None:
    figures = ", ".join(f"{name} {value:,.3f}" for name, value in result.figures.items()) or "failed"
    who = f"{result.measure} round {result.round} {result.contender}"
    print(f"  {who}: {figures}; foreign {result.foreign:.2f} cores", file=sys.stderr, flush=True)


def _finish(results: Sequence[Result], about: Sequence[str], options: argparse.Namespace) -> None:
    held = verdicts(results)
    print("\ntargets (ratios of medians of this run)")
    print("\n".join(str(verdict) for verdict in held if verdict.value is not None))
    print(f"    {sum(verdict.value is None for verdict in held)} of {len(held)} not measured in this run")
    discarded = sum(result.discarded for result in results)
    failed = [result for result in results if result.failure]
    loads = [result.foreign for result in results] or [0.0]
    print(
        f"\n{len(results)} trials, {len(failed)} failed, {discarded} discarded; "
        f"foreign load {min(loads):.2f} to {max(loads):.2f} cores"
    )
    if options.json:
        document = {
            "about": list(about),
            "rounds": options.rounds,
            "quick": options.quick,
            "trials": [result._asdict() for result in results],
            "targets": [{**verdict._asdict(), "met": verdict.met} for verdict in held],
        }
        options.json.write_text(json.dumps(document, indent=1, ensure_ascii=False))
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
