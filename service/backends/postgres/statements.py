"""The statements on the table of passages. What is put together here are our own words; whatever a caller gives is a parameter."""

from __future__ import annotations

# Whose passages a statement reaches: every read and write goes through one of these two.
READABLE = "app = %(app)s AND owner IN (%(owner)s, %(shared)s)"
OWN = "app = %(app)s AND owner = %(owner)s"

COMMON = 1000
"""A term in at least so many passages cannot make one a candidate where a rarer term can; it still counts in its rank."""

COLUMNS = "app, owner, document, chunk, passage::text"

INSERT = """
    INSERT INTO brainstem_passages (app, owner, document, chunk, space, dimensions, embedding, passage, words)
    VALUES (%(app)s, %(owner)s, %(document)s, %(chunk)s, %(space)s, %(dimensions)s, %(vector)s::vector, %(passage)s::json,
        array_to_tsvector(ARRAY[%(shelf)s]) || to_tsvector('brainstem', %(title)s) || setweight(to_tsvector('brainstem', %(headings)s), 'A')
        || to_tsvector('brainstem', %(text)s))
    ON CONFLICT (app, owner, document, chunk) DO UPDATE SET space = excluded.space, dimensions = excluded.dimensions,
        embedding = excluded.embedding, passage = excluded.passage, words = excluded.words"""

DELETE = f"DELETE FROM brainstem_passages WHERE {OWN} AND document = %(document)s AND chunk >= 0 AND chunk < %(chunks)s"  # noqa: S608

PAGE = f"""
    SELECT {COLUMNS}, space, embedding::text FROM brainstem_passages
    WHERE {OWN} AND (document, chunk) > (%(document)s, %(chunk)s) ORDER BY document, chunk LIMIT %(limit)s"""  # noqa: S608

# Of vectors of unit length the negative inner product orders as the cosine does, and is the cheapest to compute.
NEAREST = f"""
    SELECT {COLUMNS} FROM brainstem_passages WHERE {READABLE} AND space = %(space)s AND dimensions = %(dimensions)s
    ORDER BY embedding <#> %(vector)s::vector, document, chunk, owner LIMIT %(limit)s"""  # noqa: S608

# PostgreSQL ranks a passage by how often and where it has a word, but not by how rare the word is. So each term is ranked on
# its own and weighted as BM25 does, by its rarity among the passages that this scope reads: nobody else's count. Terms that are
# in very many of them only count where a rarer term has found a passage, and English stop words only where nothing else is asked.
WORDED = f"""
    WITH given AS MATERIALIZED (
        SELECT phraseto_tsquery('brainstem', term) AS query, numnode(phraseto_tsquery('english', term)) > 0 AS tells
        FROM unnest(%(terms)s::text[]) AS t (term)
    ), asked AS MATERIALIZED (
        SELECT query, (SELECT count(*) FROM brainstem_passages WHERE {READABLE})::float AS total, (
            SELECT count(*) FROM (
                SELECT FROM brainstem_passages WHERE {READABLE} AND words @@ (%(shelves)s::tsquery && query) LIMIT {COMMON}
            ) AS these
        )::float AS found FROM given WHERE numnode(query) > 0 AND (tells OR NOT EXISTS (SELECT FROM given WHERE tells))
    ), wanted AS MATERIALIZED (
        SELECT string_agg(query::text, ' | ')::tsquery AS query FROM asked
        WHERE found > 0 AND (found < {COMMON} OR NOT EXISTS (SELECT FROM asked WHERE found BETWEEN 1 AND {COMMON} - 1))
    ), candidates AS MATERIALIZED (
        SELECT app, owner, document, chunk, words FROM brainstem_passages
        WHERE {READABLE} AND words @@ (%(shelves)s::tsquery && (SELECT query FROM wanted))
    ), weighted AS MATERIALIZED (
        SELECT query, ln(1 + (total - held + 0.5) / (held + 0.5)) AS weight
        FROM (SELECT *, CASE WHEN found < {COMMON} THEN found ELSE greatest(found, total / 2) END AS held FROM asked) AS counted
    ), best AS (
        SELECT app, owner, document, chunk, sum(weight * ts_rank('{{0.5, 0.5, 0.5, 1.0}}', words, query, 1)) AS score
        FROM candidates JOIN weighted ON words @@ query
        GROUP BY app, owner, document, chunk ORDER BY score DESC, document, chunk, owner LIMIT %(limit)s
    )
    SELECT app, owner, document, chunk, (
        SELECT passage::text FROM brainstem_passages AS p
        WHERE (p.app, p.owner, p.document, p.chunk) = (best.app, best.owner, best.document, best.chunk)
    ) FROM best ORDER BY score DESC, document, chunk, owner"""  # noqa: S608
