-- Migration 2: what a text shows on its face is counted once, when it is stored, so that a replay need not read texts.
-- Changes are appended to MIGRATIONS in store.py; this file is only ever migration 2.

-- How often a text voices doubt. RE2 syntax; letters of either case.
CREATE MACRO hedges_in(words) AS len(regexp_extract_all(coalesce(words, ''),
    '(?i)\b(maybe|perhaps|probably|possibly|not (entirely )?(sure|certain)|i think|i guess|might be|roughly)\b'));

DROP VIEW graded;
-- The table is made anew: after ALTER TABLE, a write-ahead log that a killed program leaves cannot be read by DuckDB 2.0
-- ("required extension core_functions"), because it looks for the functions of the CHECKs before it has any.
CREATE TABLE old_responses AS SELECT * FROM responses;
DROP TABLE responses;
CREATE TABLE responses (
    response_id         VARCHAR PRIMARY KEY,   -- md5 of the cell, so equal cells collide and stores merge
    run_id              VARCHAR NOT NULL,
    query_id            VARCHAR NOT NULL,
    model_id            VARCHAR NOT NULL,      -- the model asked for
    prompt_style        VARCHAR NOT NULL,
    sample_index        INTEGER NOT NULL CHECK (sample_index >= 0),
    model_answered      VARCHAR,               -- the model that says it answered
    text                VARCHAR USING COMPRESSION zstd,  -- left to choose, DuckDB tries all: slower, and a larger file
    finish_reason       VARCHAR,
    max_tokens          INTEGER,
    input_tokens        BIGINT CHECK (input_tokens >= 0),
    cached_input_tokens BIGINT CHECK (cached_input_tokens >= 0),   -- part of input_tokens
    output_tokens       BIGINT CHECK (output_tokens >= 0),
    reasoning_tokens    BIGINT CHECK (reasoning_tokens >= 0),      -- part of output_tokens
    tokens_from         VARCHAR CHECK (tokens_from IN ('usage', 'estimate', 'source')),
    latency_s           DOUBLE CHECK (latency_s >= 0),
    mean_logprob        DOUBLE CHECK (mean_logprob <= 0),          -- nats per token, over the answer's tokens
    reported_cost_usd   DOUBLE CHECK (reported_cost_usd >= 0),     -- only where the source gives no price card
    provenance          VARCHAR NOT NULL CHECK (provenance IN ('live', 'local', 'imported', 'simulated')),
    status              VARCHAR NOT NULL CHECK (status IN ('ok', 'truncated', 'refused', 'failed')),
    error               VARCHAR,
    text_length         INTEGER NOT NULL CHECK (text_length >= 0),          -- characters, 0 without a text
    hedges              INTEGER NOT NULL CHECK (hedges >= 0),               -- hedges_in(text)
    CHECK (response_id = md5(concat_ws(chr(31), query_id, model_id, prompt_style, sample_index)))
);
INSERT INTO responses SELECT *, length(coalesce(text, '')), hedges_in(text) FROM old_responses;
DROP TABLE old_responses;

-- The latest version of every grader's verdict on every response. Only graders with several versions need a search.
CREATE VIEW latest_scores AS
WITH regraded AS (
    SELECT grader FROM scores GROUP BY grader HAVING min(grader_version) < max(grader_version)
)
SELECT response_id, grader, grader_version, score, answer FROM scores ANTI JOIN regraded USING (grader)
UNION ALL
SELECT response_id, grader, grader_version, score, answer FROM scores SEMI JOIN regraded USING (grader)
QUALIFY row_number() OVER (PARTITION BY response_id, grader ORDER BY grader_version DESC) = 1;

-- The cost under the price card in force (reported cost where there is one), null when it is unknown. Cached input is
-- billed at its own price where the card has one.
CREATE VIEW priced AS
WITH card AS (
    SELECT * FROM price_cards WHERE valid_from <= current_date
    QUALIFY row_number() OVER (PARTITION BY model_id ORDER BY valid_from DESC) = 1
)
SELECT r.*,
    coalesce(r.reported_cost_usd, (
        (r.input_tokens - coalesce(r.cached_input_tokens, 0)) * card.input_usd_per_mtok
        + coalesce(r.cached_input_tokens, 0) * coalesce(card.cached_input_usd_per_mtok, card.input_usd_per_mtok)
        + r.output_tokens * card.output_usd_per_mtok) / 1e6) AS cost_usd
FROM responses r LEFT JOIN card USING (model_id);

-- As in migration 1: one row a response, with the latest grade of its query's own grader, and its cost.
CREATE VIEW graded AS
SELECT r.* EXCLUDE (cost_usd), q.dataset, q.split, q.domain, s.score, s.answer, s.grader_version, r.cost_usd
FROM priced r JOIN queries q USING (query_id)
LEFT JOIN latest_scores s ON s.response_id = r.response_id AND s.grader = q.grader;
