"""One script of a suite: where it is, what its output is called, and which options may be passed to it.

The keys are those of the original's summary, so that a job, its record and its line in a summary read the same. A job
that a person writes (in the YAML of `--config`, or in a manifest's `jobs`) needs a name, a script and an output: what
is left out is as in the original, and what is misspelt is refused instead of being passed over.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from shardwise_api.base import ApiModel

Option = Literal["output_dir", "epochs", "folds", "sample", "batch"]
"""What a suite may pass to a script that takes it."""

STANDARD_SPELLINGS: dict[Option, str] = {
    "output_dir": "--output-dir",
    "epochs": "--epochs",
    "folds": "--folds",
    "sample": "--sample",
    "batch": "--batch-size",
}
"""How an option is passed to a script unless the script is known to spell it otherwise."""

MAX_ID_LENGTH = 200
"""An id names a folder of logs, and file systems end at 255 bytes."""

DetectMethod = Literal["text", "ast", "config"]
"""How the options of a script were found; `config` means that a person wrote them down."""

BATCH_NAMES = ("batch", "batch_size", "batch-size")
"""How a job's args may name the size of a batch."""

Scalar = str | int | float | bool


def checked_id(value: str) -> str:
    """Return an id. Raises ValueError when it can't name a folder of logs."""
    if not value or len(value) > MAX_ID_LENGTH:
        raise ValueError(f"must have 1 to {MAX_ID_LENGTH} characters, got {len(value)}")
    if value in (".", "..") or "/" in value or not value.isprintable() or value != value.strip():
        raise ValueError(f"names a folder of logs (no '/', no line break, no blank at either end), got {value!r}")
    return value


def _relative(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute():
        raise ValueError(f"must be relative, got {value!r}")
    if ".." in path.parts:
        raise ValueError(f"must not lead out of its folder by '..', got {value!r}")
    if "\0" in value or path == PurePosixPath("."):
        raise ValueError(f"must name a file or folder, got {value!r}")
    return str(path)


def _scalar(value: object) -> object:
    if isinstance(value, str | int | float):
        return value
    kind = "nothing" if value is None else f"a {type(value).__name__}"
    raise ValueError(f"must be text, a number or true/false, got {kind}")


def _option_name(value: str) -> str:
    if not value or value.startswith("-") or "=" in value or any(letter.isspace() for letter in value):
        raise ValueError(f"must be an option's name without its leading dashes, got {value!r}")
    return value


def _args(value: dict[str, Scalar]) -> dict[str, Scalar]:
    batch = [name for name in value if name in BATCH_NAMES]
    if len(batch) > 1:
        raise ValueError(f"give the batch size {len(batch)} times, as {' and '.join(batch)}; leave one of them")
    for name in ("epochs", "folds", "sample", *batch):
        if isinstance(value.get(name), bool):
            raise ValueError(f"have true or false for {name}, which takes a number")
    return value


JobId = Annotated[str, AfterValidator(checked_id)]
RelativePath = Annotated[str, Field(min_length=1), AfterValidator(_relative)]
"""A posix path that stays within the folder it is relative to, in its shortest form."""
JobArgs = Annotated[
    dict[Annotated[str, AfterValidator(_option_name)], Annotated[Scalar, BeforeValidator(_scalar)]],
    AfterValidator(_args),
]
"""Options of one job by name: text and numbers become `--name value`, true a bare flag, false is left out."""


class SuiteJob(BaseModel):
    """One script, as it is selected, frozen and run."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    id: JobId
    name: str = Field(min_length=1)
    script: RelativePath
    """Relative to the tree."""
    output: RelativePath
    """Folder below the base of all outputs."""
    args: JobArgs = Field(default_factory=dict)
    optional: bool = False
    """Whether its failure leaves the suite's exit status alone."""
    use_output_dir: bool = True
    supports_epochs: bool = True
    supports_folds: bool = True
    supports_sample: bool = True
    supports_batch: bool = True
    detect_method: DetectMethod = "config"
    spellings: dict[Option, str] = Field(default_factory=dict)
    """How this script spells an option, where that is known; the standard spelling otherwise."""
    aliases: tuple[str, ...] = ()
    """Other ids that select this job: those of the same script found elsewhere."""

    def spelling(self, option: Option) -> str:
        """Return how an option is passed to this script."""
        return self.spellings.get(option, STANDARD_SPELLINGS[option])


PREFIX = "train_"
"""Of scripts' names; an id, a title and an output folder are made of the rest."""
_ID_LETTERS = str.maketrans({"'": None, "(": None, ")": None, "/": "_", "&": "and", " ": "_"})


def id_of(text: str) -> str:
    """Return the id that the original makes of a file's stem or of a job's name."""
    return text.lower().translate(_ID_LETTERS)


def title_of(stem: str) -> str:
    """Return a script's name for people: `train_brain_mri` is `Brain Mri`."""
    return stem.removeprefix(PREFIX).replace("_", " ").title().strip() or stem


def output_of(stem: str) -> str:
    """Return the folder of a script's results: `train_als` writes to `als_results`."""
    return f"{stem.removeprefix(PREFIX)}_results"


def _map(value: object) -> object:
    # `args:` with nothing behind it, which is how YAML writes an empty map by hand.
    return {} if value is None else value


class JobEntry(ApiModel):
    """One entry of a list of jobs; keys in snake_case as in the original, or in camelCase as in manifests."""

    name: str = Field(min_length=1)
    script: RelativePath
    output: RelativePath
    id: JobId | None = None
    """Made from the name unless given."""
    args: Annotated[JobArgs, BeforeValidator(_map)] = Field(default_factory=dict)
    optional: bool = False
    use_output_dir: bool = True
    supports_epochs: bool = True
    supports_folds: bool = True
    supports_sample: bool = True
    supports_batch: bool = True

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.id is None:
            try:
                self.id = checked_id(id_of(self.name))
            except ValueError as error:
                raise ValueError(f"has a name that makes no id: an id {error}; give it an id") from None
        return self

    def job(self) -> SuiteJob:
        """Return the job that this entry describes."""
        return SuiteJob(detect_method="config", **self.model_dump())
