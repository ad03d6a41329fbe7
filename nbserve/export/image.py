"""`export_image`: the story of one export: refusals, context, build, proof. Called by the verb `export`.

What is refused is refused before anything is written; done is only what is proven. The context stays where it was
asked for, also where the build or the proof fails: it is what a person looks into.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from nbserve.bundle import Bundle
from nbserve.client import Client
from nbserve.config import ModelConfig
from nbserve.errors import UsageError
from nbserve.export import context as contexts
from nbserve.export.context import ContextPlan
from nbserve.export.engine import BuiltImage, Engine, Layer, find_engine
from nbserve.export.proof import Proof, Question, prove_environment, prove_image
from nbserve.export.refusals import refuse_pickles, refuse_secrets
from nbserve.export.requirements import OWN, closure, installed
from nbserve.export.wheels import fetch_wheels, requirement_lines, write_own_wheel

__all__ = ["Asked", "Exported", "ProofKind", "export_image"]

ProofKind = Literal["auto", "image", "venv", "off"]

_REFERENCE = re.compile(r"[a-z0-9][a-z0-9._/:@-]*[a-z0-9]", re.IGNORECASE)
_TAG = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::\d+/[a-z0-9._/-]+)?(?::\w[\w.-]{0,127})?")


@dataclass(frozen=True)
class Asked:
    """One export as the user asked for it. live: the endpoint's client, None for a bundle that is not served here."""

    name: str
    bundle: Path
    output: Path
    config: ModelConfig = field(default_factory=ModelConfig)
    live: Client | None = None
    version: str = ""
    tag: str = ""
    base_image: str = ""
    vendor: bool = False
    build: bool = True
    proof: ProofKind = "auto"
    env: Mapping[str, str] = field(default_factory=dict)
    allow_secrets: tuple[str, ...] = ()


class Exported(msgspec.Struct, kw_only=True):
    """What was made. Empty `image`: only the context. Sizes in bytes."""

    name: str
    digest: str
    context: str
    context_bytes: int
    tag: str
    image: str = ""
    """Its id."""
    image_bytes: int = 0
    layers: int = 0
    layer_sizes: list[Layer] = msgspec.field(default_factory=list)
    """Those that add something, the first one first."""
    engine: str = ""
    proof: Proof
    build_command: str
    run_command: str
    notes: list[str] = msgspec.field(default_factory=list)

    def __repr__(self) -> str:
        from nbserve.tables import exported, to_text

        return to_text(exported(self))


def export_image(asked: Asked, say: Callable[[str], None], hear: Callable[[str], None] = lambda line: None) -> Exported:
    """Write the context, build the image where an engine answers, prove it. `say` hears of each stage, `hear` each
    line of the build.

    Raises UsageError; BundleError; ExportError where a pickle or a secret would go in, or pip or the engine fails;
    ProofError where what was made answers otherwise than the live endpoint.
    """
    say("checking the bundle")
    bundle = Bundle.open(asked.bundle, check_digest=True)
    _check(asked, bundle)
    refuse_pickles(bundle)
    refuse_secrets(bundle, asked.allow_secrets)
    engine = find_engine() if asked.build or asked.proof == "image" else None
    kind = _proof_kind(asked, engine)
    question = _question(asked, bundle, say)
    plan = _plan(asked, bundle, engine)
    output = asked.output.absolute()
    notes = _write(asked, plan, output, say)
    image = None
    if engine is not None and asked.build:
        say(f"building {plan.tag} with {engine.name}")
        image = engine.build(output, plan.tag, say, hear)
    elif asked.build:
        notes.append("neither docker nor podman answers here: build it where one does, with the command below")
    proof = Proof(kind="off", checked="nothing")
    if kind == "image" and engine is not None:
        say("proving the image: it answers the sample as the endpoint did")
        proof = prove_image(engine, plan.tag, question)
    elif kind == "venv":
        say("proving in a clean virtual environment: installing")
        proof = prove_environment(output, question, settings=plan.settings, vendored=plan.vendored, say=say)
    return _exported(asked, plan, output, engine, image, proof, notes)


def _check(asked: Asked, bundle: Bundle) -> None:
    for text, what, pattern in ((asked.tag, "--tag", _TAG), (asked.base_image, "--base-image", _REFERENCE)):
        if text and not pattern.fullmatch(text):
            raise UsageError(f"{what} {text!r} is no name of an image", hint="for example registry/digits:1.0")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if bundle.manifest.python != here:
        raise UsageError(
            f"{bundle.name} was captured under Python {bundle.manifest.python}, and this is {here}",
            hint=f"run `nbserve export` with the notebook's Python {bundle.manifest.python}: it pins what is installed",
        )


def _proof_kind(asked: Asked, engine: Engine | None) -> ProofKind:
    """The best there is, where the user does not say."""
    can_run = engine is not None and asked.build
    if asked.proof == "image" and not can_run:
        why = "with --no-build there is no image" if not asked.build else "neither docker nor podman answers here"
        raise UsageError(f"--proof image: {why}", hint="use --proof venv, a clean virtual environment")
    if asked.proof == "auto":
        return "image" if can_run else "venv"
    return asked.proof


def _question(asked: Asked, bundle: Bundle, say: Callable[[str], None]) -> Question:
    """The sample, with the answer that the live endpoint gives now; where none is live, the notebook's."""
    sample, against = bundle.sample, "the notebook"
    if sample is not None and asked.live is not None and asked.proof != "off":
        say("asking the live endpoint")
        answer = asked.live.predict(asked.name, sample.body, sample.content_type, asked.version)
        sample = msgspec.structs.replace(sample, expected_content_type=answer[0], expected_body=answer[1])
        against = "the live endpoint"
    environment = {**asked.config.env, **asked.env}
    return Question(
        name=asked.name,
        sample=sample,
        against=against,
        environment=environment,
        proven_at_start=asked.config.proof == "on",
        timeout_s=2 * asked.config.startup_timeout_s,
    )


def _plan(asked: Asked, bundle: Bundle, engine: Engine | None) -> ContextPlan:
    return ContextPlan(
        bundle=bundle,
        name=asked.name,
        tag=asked.tag or f"{asked.name.lower().strip('._-')}:{bundle.digest[:12]}",
        base_image=asked.base_image or f"python:{bundle.manifest.python}-slim-bookworm",
        engine=engine.name if engine else "docker",
        vendored=asked.vendor,
        settings=contexts.settings_of(asked.config, asked.name, bundle),
        variables=[contexts.TOKEN, *sorted({*asked.config.env, *asked.env} - {contexts.TOKEN})],
    )


def _write(asked: Asked, plan: ContextPlan, output: Path, say: Callable[[str], None]) -> list[str]:
    """The context; notes for people."""
    bundle = plan.bundle
    pins, notes = closure([*bundle.manifest.requirements, *bundle.provenance.imported], installed())
    with contexts.replacing(output) as folder:
        say("copying the bundle")
        contexts.copy_bundle(bundle, folder / "bundle")
        wheels = folder / "wheels"
        wheels.mkdir()
        if any(pin.name == OWN and pin.url for pin in pins):
            write_own_wheel(wheels)
        wanted = [pin for pin in pins if pin.name != OWN or not pin.url]
        wanted = wanted if asked.vendor else [pin for pin in wanted if not pin.is_on_index]
        say(f"fetching {len(wanted)} wheels" if wanted else "writing the context")
        fetch_wheels(wanted, wheels, complete=not (asked.vendor and notes))
        if not any(wheels.iterdir()):
            wheels.rmdir()
        lines = requirement_lines(pins, wheels, vendored=asked.vendor)
        (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        contexts.write_texts(plan, folder)
    return notes


def _exported(
    asked: Asked,
    plan: ContextPlan,
    output: Path,
    engine: Engine | None,
    image: BuiltImage | None,
    proof: Proof,
    notes: list[str],
) -> Exported:
    return Exported(
        name=asked.name,
        digest=plan.bundle.digest,
        context=str(output),
        context_bytes=sum(path.stat().st_size for path in output.rglob("*") if path.is_file()),
        tag=plan.tag,
        image=image.id if image else "",
        image_bytes=image.size_bytes if image else 0,
        layers=image.layers if image else 0,
        layer_sizes=engine.layers(plan.tag) if engine and image else [],
        engine=engine.name if engine else "",
        proof=proof,
        build_command=plan.build_command,
        run_command=" ".join(plan.run_lines),
        notes=notes,
    )
