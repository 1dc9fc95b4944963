"""Making tenants. There is no API for it: whoever may make tenants sits at the command line."""

from sqlmodel.ext.asyncio.session import AsyncSession

from app.auth import service as auth
from app.auth.schemas import Scope
from app.core.errors import Invalid, Pointer
from app.tenants import repository
from app.tenants.models import Tenant


async def create_tenant(session: AsyncSession, name: str) -> Tenant:
    """A tenant called ``name`` (1 to 200 characters). Raises :class:`~app.core.errors.Invalid`."""
    name = name.strip()
    if not 1 <= len(name) <= 200:
        raise Invalid(
            "A tenant's name has 1 to 200 characters.",
            next_step="Choose another name.",
            pointers=(Pointer("/name", "must have 1 to 200 characters"),),
        )
    return await repository.add(session, Tenant(name=name))


async def create_first_tenant(session: AsyncSession, name: str) -> tuple[Tenant, str]:
    """A tenant and the text of an API key that may do everything in it. The text is shown once: only its hash
    is stored."""
    tenant = await create_tenant(session, name)
    issued = await auth.issue_key(session, tenant.id, name="first key", scopes=frozenset({Scope.ADMIN}))
    return tenant, issued.text
