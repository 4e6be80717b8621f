-- The store: what was asked, what was answered, what it cost. Version 1.
-- Changes are appended to MIGRATIONS in store.py; this file is only ever migration 1.

CREATE TABLE queries (
    query_id  VARCHAR PRIMARY KEY,      -- unique in the store: dataset/name
    dataset   VARCHAR NOT NULL,
    split     VARCHAR NOT NULL,         -- train, validation or test
    domain    VARCHAR NOT NULL,
    messages  JSON NOT NULL,            -- chat messages as sent, without the prompt style's system message
    question  VARCHAR NOT NULL,         -- the text to embed: the last question without its few-shot prefix
    reference VARCHAR,                  -- gold answer; null where the source has none
    grader    VARCHAR NOT NULL,         -- name in responses_db.graders; 'imported' where scores came with the data
    metadata  JSON                      -- whatever the grader or the generator needs
);

CREATE TABLE models (
    model_id VARCHAR PRIMARY KEY,
    provider VARCHAR NOT NULL,
    metadata JSON
);

-- USD per million tokens. A null price is unknown, never zero.
CREATE TABLE price_cards (
    model_id                  VARCHAR NOT NULL,
    valid_from                DATE NOT NULL,
    input_usd_per_mtok        DOUBLE CHECK (input_usd_per_mtok >= 0),
    cached_input_usd_per_mtok DOUBLE CHECK (cached_input_usd_per_mtok >= 0),
    output_usd_per_mtok       DOUBLE CHECK (output_usd_per_mtok >= 0),
    source                    VARCHAR NOT NULL,
    PRIMARY KEY (model_id, valid_from)
);

CREATE TABLE runs (
    run_id     VARCHAR PRIMARY KEY,
    kind       VARCHAR NOT NULL,        -- harvest, import, regrade
    config     JSON NOT NULL,
    versions   JSON NOT NULL,
    counts     JSON,                    -- null while the run is going, or when it was killed
    started_at TIMESTAMPTZ NOT NULL,
    ended_at   TIMESTAMPTZ
);

CREATE TABLE responses (
    response_id         VARCHAR PRIMARY KEY,   -- md5 of the cell, so equal cells collide and stores merge
    run_id              VARCHAR NOT NULL,
    query_id            VARCHAR NOT NULL,
    model_id            VARCHAR NOT NULL,      -- the model asked for
    prompt_style        VARCHAR NOT NULL,
    sample_index        INTEGER NOT NULL CHECK (sample_index >= 0),
    model_answered      VARCHAR,               -- the model that says it answered
    text                VARCHAR,
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
    CHECK (response_id = md5(concat_ws(chr(31), query_id, model_id, prompt_style, sample_index)))
);

CREATE TABLE scores (
    response_id    VARCHAR NOT NULL,
    grader         VARCHAR NOT NULL,
    grader_version INTEGER NOT NULL,
    score          DOUBLE NOT NULL CHECK (score BETWEEN 0 AND 1),
    answer         VARCHAR,             -- the answer read out of the text, without a look at the reference; null if none
    PRIMARY KEY (response_id, grader, grader_version)
);

-- One row a response: the latest grade, and the cost under the price card in force (reported cost where there is one).
-- A cost is null when it is unknown. Cached input is billed at its own price where the card has one.
CREATE VIEW graded AS
WITH card AS (
    SELECT * FROM price_cards WHERE valid_from <= current_date
    QUALIFY row_number() OVER (PARTITION BY model_id ORDER BY valid_from DESC) = 1
), latest AS (
    SELECT s.* FROM scores s JOIN responses USING (response_id) JOIN queries q USING (query_id)
    WHERE s.grader = q.grader
    QUALIFY row_number() OVER (PARTITION BY response_id ORDER BY grader_version DESC) = 1
)
SELECT r.*, q.dataset, q.split, q.domain, latest.score, latest.answer, latest.grader_version,
    coalesce(r.reported_cost_usd, (
        (r.input_tokens - coalesce(r.cached_input_tokens, 0)) * card.input_usd_per_mtok
        + coalesce(r.cached_input_tokens, 0) * coalesce(card.cached_input_usd_per_mtok, card.input_usd_per_mtok)
        + r.output_tokens * card.output_usd_per_mtok) / 1e6) AS cost_usd
FROM responses r JOIN queries q USING (query_id)
LEFT JOIN card USING (model_id)
LEFT JOIN latest USING (response_id);
