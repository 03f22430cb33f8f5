"""The parser of command lines of training: that of every command, Lightning's, and links that are kept."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser

from common import ConfigError
from retrieval.training.plain_parser import PlainParser


class Parser(PlainParser, LightningArgumentParser):
    """Refuses what a link would overwrite in silence.

    Attributes:
        links: option that follows another one -> the other one
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make a parser without options."""
        self.links: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def link_arguments(self, source: Any, target: str, *args: Any, **kwargs: Any) -> None:
        """Link, and remember a link that hands over the value as it is."""
        super().link_arguments(source, target, *args, **kwargs)
        if not args and not kwargs:
            self.links[target] = source

    def get_defaults(self, *args: Any, **kwargs: Any) -> Namespace:
        """Leave out what parsing adds last, so that what it finds before that was set by someone.

        That is both ends of the links, and the options of the default model and data: another class, chosen instead,
        would take them over where it has defaults of its own.
        """
        defaults = super().get_defaults(*args, **kwargs)
        for name in {*self.links, *self.links.values()} & set(defaults.keys()):
            del defaults[name]
        for name in ("model", "data"):
            defaults.pop(f"{name}.init_args", None)
        return defaults

    def _parse_common(self, cfg: Namespace, **kwargs: Any) -> Namespace:  # type: ignore[override]  # varies by version
        """Compare both ends of each link while `cfg` still holds nothing but what was set.

        jsonargparse comes here with each configuration file alone (without defaults), and with all of them
        together and the command line on top. A file that says the same on both ends, as config.yaml of a run
        does, sets the source only, so that a later file or option can still change it.
        """
        links = {
            prefix + target: prefix + source
            for prefix, parser in self._parsers().items()
            for target, source in getattr(parser, "links", {}).items()
            if prefix + target in cfg
        }
        if not kwargs["defaults"]:
            for target, source in links.items():
                if source in cfg and cfg[target] == cfg[source]:
                    del cfg[target]
            return super()._parse_common(cfg=cfg, **kwargs)
        given = {target: cfg[target] for target in links}
        parsed = super()._parse_common(cfg=cfg, **kwargs)
        for target, source in links.items():
            if source in parsed:  # else the class has no such option, and there is nothing to follow
                check_link(target, given[target], source, parsed[source])
        return parsed


def check_link(target: str, given: Any, source: str, value: Any) -> None:
    """Refuse an option that was set to something else than the option that it follows.

    Args:
        target: dotted name of the option that follows, as the parser has it: fit.model.init_args.template
        given: its value
        source: dotted name of the option that decides
        value: its value

    Raises:
        ConfigError: if they differ
    """
    if given != value:
        follower, leader = (".".join(name.replace(".init_args.", ".").split(".")[-2:]) for name in (target, source))
        raise ConfigError(
            f"{follower} is {given!r}, but it follows {leader}, which is {value!r}: "
            f"set --{leader}, or in YAML {leader}, instead"
        )
