"""Logging: one line an event to standard error, as JSON for machines or text for people (always on a terminal).

What libraries log goes the same way. A field whose name says that it is a secret is masked.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Literal, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from logflume.masks import MASK, is_secret

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "text"]


def get(name: str) -> FilteringBoundLogger:
    """The logger of a module; call it with an event and fields: ``log.info("part closed", bytes=n)``."""
    return cast(FilteringBoundLogger, structlog.stdlib.get_logger(name))


def configure(level: Level, fmt: Format) -> None:
    """Set up logging for this process; a later call replaces an earlier one."""
    number = logging.getLevelNamesMapping()[level.upper()]
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask,
        # before the renderers, whose own tracebacks show local variables, and so secrets
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        # a logger made when its module is imported must follow a configure() that comes later
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = _OverProgress if sys.stderr.isatty() else structlog.stdlib.ProcessorFormatter
    handler.setFormatter(
        formatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(fmt)],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("logflume").setLevel(number)


class _OverProgress(structlog.stdlib.ProcessorFormatter):
    """On a terminal: a line takes the place of a progress bar, which is drawn again below it."""

    def format(self, record: logging.LogRecord) -> str:
        return f"\r\x1b[K{super().format(record)}"


def _renderer(fmt: Format) -> Processor:
    terminal = sys.stderr.isatty()
    if fmt == "json" and not terminal:
        return structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    return structlog.dev.ConsoleRenderer(colors=terminal)


def _mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _masked(name, value) for name, value in event.items()}


def _masked(name: object, value: object) -> object:
    if isinstance(name, str) and is_secret(name):
        return MASK
    if isinstance(value, Mapping):
        return {key: _masked(key, one) for key, one in value.items()}
    return value
