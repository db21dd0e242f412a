"""What this server offers: its recipes, and with them the only weights that a request may use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines import recipe as recipes
from pipelines.errors import ConfigError
from pipelines.models.checkpoints import weights_hash
from pipelines.recipe import Recipe
from pipelines.recipe.settings import Lora, ReadSettings
from pipelines.rows import in_step
from pipelines.strict import Checkpoint
from serve.errors import Refused
from serve.schemas import Weights


@dataclass(frozen=True)
class Served:
    """The recipes by their names, the first of them the one for requests that name none, and their weights' hashes."""

    recipes: tuple[Recipe, ...]
    hashes: tuple[tuple[Checkpoint, str], ...]

    @property
    def names(self) -> list[str]:
        """The recipes' names, in their order."""
        return [recipe.name for recipe in self.recipes]

    def named(self, name: str | None) -> Recipe:
        """A ready recipe; None is the first.

        Raises:
            Refused: there is none of that name.
        """
        for recipe in self.recipes:
            if name in (None, recipe.name):
                return recipe
        hint = f"Ask for one of: {', '.join(self.names)}; or send one as YAML."
        raise Refused(422, "unknown_recipe", f"there is no recipe {name!r} here", hint)

    def check_weights(self, recipe: Recipe) -> None:
        """Let a recipe use only networks that one of the server's own recipes loads.

        That is weights in the same role, and a painter's with the same LoRAs at the same weights: other sets would be
        one more painter in memory each.

        Raises:
            Refused: it names others, which would have to be loaded first, from wherever it says.
        """
        served = [(role, one) for ready in self.recipes for _, role, one in ready.loads()]
        for node, role, checkpoint in recipe.loads():
            if (role, checkpoint) not in served:
                uris = ", ".join(dict.fromkeys(repr(one.uri) for of_role, one in served if of_role == role))
                raise Refused(
                    422,
                    "checkpoint_not_served",
                    f"`{node}` asks for {checkpoint.uri!r}, which this server does not have loaded as {role}",
                    f"Here are {uris or 'none'}; start a server with a recipe that names the weights you want.",
                )

        self._check_loras(recipe)

    def _check_loras(self, recipe: Recipe) -> None:
        served = [(one, loras) for ready in self.recipes for _, one, loras in _painters(ready)]
        for node, checkpoint, loras in _painters(recipe):
            if (checkpoint, loras) not in served:
                offered = "; or ".join(dict.fromkeys(_named(some) for one, some in served if one == checkpoint))
                raise Refused(
                    422,
                    "lora_not_served",
                    f"`{node}` asks for {checkpoint.uri!r} with {_named(loras)}, which is not loaded here",
                    f"It has it with {offered}; start a server with a recipe that names the LoRAs you want.",
                )

    def limits(self, recipe: Recipe) -> dict[str, int]:
        """A recipe's `read` section within what the server's own recipes allow; limits change no pixel."""
        return {
            name: min(getattr(recipe.read, name), max(getattr(ready.read, name) for ready in self.recipes))
            for name in ReadSettings.model_fields
        }

    def weights(self, *only: Recipe) -> list[Weights]:
        """The weights of some recipes, or of all, each node's once."""
        used = {pair: None for recipe in only or self.recipes for pair in recipe.checkpoints().items()}
        hashes = dict(self.hashes)
        return [Weights(node=node, uri=one.uri, revision=one.revision, sha256=hashes[one]) for node, one in used]


def check_can_be_asked(recipe: Recipe) -> None:
    """Refuse a recipe that no request can bring everything for.

    Raises:
        ConfigError: it places products in scenes.
    """
    if recipe.catalogue.scene is not None:
        raise ConfigError(
            f"the recipe {recipe.name!r} reads a second picture, the scene of `catalogue.scene`, which no request can "
            "bring yet; serve another one, and run this one with `packshot render`"
        )


def _painters(recipe: Recipe) -> Iterator[tuple[str, Checkpoint, tuple[Lora, ...]]]:
    """Every painter of a recipe: its node, its weights, and the LoRAs added to them."""
    for number, step in enumerate(recipe.chain(), start=1):
        if step.paint.role in step.paint.weights():
            yield in_step("paint", number), step.paint.checkpoint, step.paint.added_loras()


def _named(loras: tuple[Lora, ...]) -> str:
    return " and ".join(f"the LoRA {one.checkpoint.uri!r} at weight {one.weight:g}" for one in loras) or "no LoRA"


def offer(names: Sequence[str]) -> Served:
    """Load recipes by name or path and hash their weights.

    Raises:
        ConfigError: no recipe, one that cannot be or that no request can ask for, or two of one name.
        InfrastructureError: weights are not there.
    """
    if not names:
        raise ConfigError(f"a server without recipes can render nothing; name one, such as {recipes.DEFAULT_RECIPE!r}")
    loaded = tuple(recipes.load(name) for name in names)
    if len({recipe.name for recipe in loaded}) < len(loaded):
        raise ConfigError(f"two recipes of {[recipe.name for recipe in loaded]} have one name; give each its own")
    return with_hashes(loaded)


def with_hashes(loaded: Sequence[Recipe]) -> Served:
    """What a server with these recipes offers."""
    for recipe in loaded:
        check_can_be_asked(recipe)
    checkpoints = dict.fromkeys(one for recipe in loaded for one in recipe.checkpoints().values())
    return Served(tuple(loaded), tuple((one, weights_hash(one)) for one in checkpoints))
