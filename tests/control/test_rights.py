"""Rights: the table says yes, everything else is no."""

from hypothesis import given
from hypothesis import strategies as st

from convoy.control.rights import RIGHTS, ROLES, TABLE, allows, reach

anything = st.text(max_size=20)


@given(role=anything, right=st.sampled_from(RIGHTS), own=st.booleans(), same_org=st.booleans())
def test_an_unknown_role_may_do_nothing(role, right, own, same_org):
    assert role in ROLES or not allows(role, right, own=own, same_org=same_org)


@given(role=st.sampled_from(ROLES), right=anything, own=st.booleans(), same_org=st.booleans())
def test_an_unknown_right_is_nobodys(role, right, own, same_org):
    assert right in RIGHTS or not allows(role, right, own=own, same_org=same_org)


@given(role=st.sampled_from(ROLES), right=st.sampled_from(RIGHTS))
def test_what_reaches_a_foreign_thing_reaches_the_org_and_what_reaches_the_org_reaches_the_own(role, right):
    foreign = allows(role, right, own=False, same_org=False)
    org = allows(role, right, own=False, same_org=True)
    own = allows(role, right, own=True, same_org=True)
    assert foreign <= org <= own


def test_the_whole_table_stands_here_as_people_know_it():
    assert {role: {right: reach(role, right) for right in RIGHTS} for role in ROLES} == {
        "project_admin": dict.fromkeys(RIGHTS, "any"),
        "org_admin": {
            **dict.fromkeys(("observe", "view", "audit"), "any"),
            **dict.fromkeys(("logs", "download", "abort", "delete", "operate_site"), "org"),
            **dict.fromkeys(("submit", "clone", "operate_server", "invite"), "none"),
        },
        "lead": {
            **dict.fromkeys(("observe", "view", "submit"), "any"),
            **dict.fromkeys(("logs", "download", "clone", "abort", "delete"), "own"),
            "operate_site": "org",
            **dict.fromkeys(("operate_server", "invite", "audit"), "none"),
        },
        "member": {right: "any" if right in ("observe", "view") else "none" for right in RIGHTS},
    }
    assert set(TABLE) == set(ROLES)
