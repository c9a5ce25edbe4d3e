"""The newest of something that is looked at again and again, and those who wait for a newer one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Latest(Generic[T]):
    """A value that one looker replaces and many pages read."""

    value: T
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def tell(self, value: T) -> None:
        """Replace the value, and wake all who wait."""
        async with self._news:
            self.value = value
            self._news.notify_all()

    async def newer(self, told: T) -> None:
        """Wait until the value is another one."""
        async with self._news:
            await self._news.wait_for(lambda: self.value is not told)

    async def changes(self) -> AsyncGenerator[T, None]:
        """Yield the value, and then each newer one; a slow reader misses those in between."""
        while True:
            told = self.value
            yield told
            await self.newer(told)
