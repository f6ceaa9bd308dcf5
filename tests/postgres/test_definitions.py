"""Which texts of two versions define the same, and which only look alike."""

import pytest

from app.postgres.definitions import changes

_OF_15 = """CREATE VIEW public.v AS
 SELECT orders.id,
    orders.customer_id,
    (orders.total)::public.money AS total
   FROM public.orders
  WHERE (orders.id IN ( SELECT c.id FROM public.customers c));"""
_OF_17 = """CREATE VIEW public.v AS
 SELECT id,
    customer_id,
    (total)::public.money AS total
   FROM public.orders
  WHERE (id IN ( SELECT c.id FROM public.customers c));"""


def differ(one: str, other: str) -> bool:
    key = ("VIEW", "public", "v")
    return bool(list(changes({key: [one]}, {key: [other]}, same_version=False)))


def test_a_query_of_one_table_is_the_same_without_its_name():
    assert not differ(_OF_15, _OF_17)


def test_so_is_one_of_a_subquery_with_an_alias():
    of_15 = "CREATE VIEW public.v AS\n SELECT x.a,\n    x.b\n   FROM ( SELECT 1 AS a, 2 AS b) x;"
    assert not differ(of_15, of_15.replace("x.", ""))
    of_15 = "CREATE VIEW public.v AS\n SELECT o.a,\n    o.b\n   FROM public.orders o;"
    assert not differ(of_15, of_15.replace("o.", ""))


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE public.t (\n    a public.d\n);",
        "CREATE VIEW public.v AS\n SELECT (t.a)::public.d AS a\n   FROM public.t;",
        "ALTER TABLE ONLY public.t ALTER COLUMN id SET DEFAULT nextval('public.s'::regclass);",
        "CREATE FUNCTION public.f(public.d) RETURNS int",
        "CREATE TRIGGER t AFTER INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();",
        "CREATE TABLE public.t (\n    CONSTRAINT c CHECK ((a OPERATOR(public.=) 1))\n);",
        "CREATE INDEX i ON public.t USING btree (a public.ops)",
        "CREATE TABLE public.t (\n    a text COLLATE public.c\n);",
        "CREATE RULE r AS\n    ON INSERT TO public.t DO  DELETE FROM public.u;",
        "CREATE VIEW public.v AS\n SELECT u.a\n   FROM (public.t\n     JOIN public.u USING (a));",
    ],
)
def test_what_is_of_another_schema_is_another(text: str):
    for at in range(text.count("public.")):
        parts = text.split("public.")
        other = "public.".join(parts[: at + 1]) + "mallory." + "public.".join(parts[at + 1 :])
        assert differ(text, other), other
