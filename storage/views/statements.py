"""How a stranger's statement is run: the server opens it as a cursor, which only one statement that reads can be.

Whether a text is one statement, and what it does, is for the server's own parser to say, not for a look at the text.
Both functions have the rights of who calls them.
"""

from __future__ import annotations

from storage.views.view import SCHEMA

#: The name of the cursor.
_CURSOR = "asked"

FUNCTIONS = (
    # "Stable" has the server refuse whatever would write; a cursor takes neither two statements nor a command.
    f"""
CREATE FUNCTION {SCHEMA}.open_statement(statement text) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    asked refcursor := '{_CURSOR}';
BEGIN
    OPEN asked NO SCROLL FOR EXECUTE statement;
END $$""",
    # A row that is too much is null instead, and the last one.
    f"""
CREATE FUNCTION {SCHEMA}.take_rows(most integer, bytes bigint) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    asked refcursor := '{_CURSOR}';
    taken record;
    line text;
BEGIN
    FOR n IN 1..most LOOP
        FETCH asked INTO taken;
        EXIT WHEN NOT FOUND;
        line := pg_catalog.row_to_json(taken)::text;
        bytes := bytes - pg_catalog.octet_length(line);
        IF bytes < 0 THEN
            RETURN NEXT NULL;
            EXIT;
        END IF;
        RETURN NEXT line;
    END LOOP;
END $$""",
)

OPEN = f"SELECT {SCHEMA}.open_statement(%s)"
#: Its columns, of no row.
DESCRIBE = f'FETCH 0 FROM "{_CURSOR}"'
TAKE = f"SELECT {SCHEMA}.take_rows(%s, %s)"
