//! The SQL of every question. Each statement casts its columns to the types that `answer.rs` reads,
//! is planned anew each time (unnamed, with its parameters known) and finds its rows through the
//! indexes of Mastodon's schema (`tests/support/schema.sql`); `tests/postgres_client.rs` explains
//! each and refuses sequential scans.

use std::sync::Arc;

use crate::hub::question::Question;
use crate::protocol::ids::{AccountId, ListId, Token, TokenId};
use crate::protocol::postgres::{Parameter, Statement};

/// A token is good while it is not revoked, its user not disabled and the user's account not
/// suspended. `expires_in` is not looked at (transcripts/README.md, `tok-expired`). A user whose
/// role is null or gone has the permissions of the role "everyone", -99. Bit 20: may view the feeds
/// that are closed to others.
pub const TOKENS: &str = "\
select t.token::text, t.id::int8, u.account_id::int8, coalesce(t.scopes, '')::text,
       u.chosen_languages::text[],
       (coalesce(r.permissions, everyone.permissions, 0)::int8 & (1 << 20)) <> 0
from oauth_access_tokens t
join users u on u.id = t.resource_owner_id
join accounts a on a.id = u.account_id
left join user_roles r on r.id = u.role_id
left join user_roles everyone on everyone.id = -99
where t.token = any($1)
  and t.revoked_at is null and u.disabled is not true and a.suspended_at is null";

/// The same conditions, by id.
pub const STILL_VALID: &str = "\
select t.id::int8
from oauth_access_tokens t
join users u on u.id = t.resource_owner_id
join accounts a on a.id = u.account_id
where t.id = any($1)
  and t.revoked_at is null and u.disabled is not true and a.suspended_at is null";

/// Who owns which list.
pub const LIST_OWNERS: &str =
    "select id::int8, account_id::int8 from lists where id = any($1) and account_id is not null";

/// The feed access settings, as YAML.
pub const FEED_SETTINGS: &str = "\
select var::text, value::text from settings
where var in ('local_live_feed_access', 'remote_live_feed_access',
              'local_topic_feed_access', 'remote_topic_feed_access')";

/// `$1`: author and mentioned; `$2`: author. Each branch has an index of its own.
/// `mutes.expires_at` is not looked at: Rails removes expired mutes (the case `ws-blocks` of
/// `tests/transcripts/`).
pub const BLOCKS_AND_MUTES: &str = "\
select account_id::int8 from blocks where target_account_id = any($1)
union all
select target_account_id::int8 from blocks where account_id = $2
union all
select account_id::int8 from mutes where target_account_id = any($1)";

/// `$1`: the readers; `$2`: the domain.
pub const DOMAIN_BLOCKS: &str = "\
select account_id::int8 from account_domain_blocks where account_id = any($1) and domain = $2";

/// One row a keyword. `expires_at` is in UTC whatever the session's time zone is.
pub const FILTERS: &str = "\
select f.id::int8, f.account_id::int8, coalesce(f.phrase, '')::text, f.context::text[],
       f.expires_at::timestamp, coalesce(f.action, 0)::int4, k.keyword::text,
       coalesce(k.whole_word, true)
from custom_filters f
join custom_filter_keywords k on k.custom_filter_id = f.id
where f.account_id = any($1)
  and (f.expires_at is null or f.expires_at > (now() at time zone 'utc'))
order by f.id, k.id";

/// The statement of a question. Text with a NUL cannot be in a Postgres database and is left out:
/// nothing is found for it.
pub fn statement(question: &Question) -> Statement<'_> {
    let (sql, parameters) = match question {
        Question::Tokens(tokens) => {
            let texts = tokens.iter().map(Token::reveal).filter(|text| !text.contains('\0'));
            (TOKENS, vec![Parameter::TextArray(texts.collect())])
        }
        Question::StillValid(tokens) => (STILL_VALID, vec![ids(tokens, |TokenId(id)| *id)]),
        Question::ListOwners(lists) => (LIST_OWNERS, vec![ids(lists, |ListId(id)| *id)]),
        Question::FeedSettings => (FEED_SETTINGS, Vec::new()),
        Question::BlocksAndMutes { author, mentions } => {
            let mut targets = vec![author.0];
            targets.extend(mentions.iter().map(|account| account.0));
            (BLOCKS_AND_MUTES, vec![Parameter::Int8Array(targets), Parameter::Int8(author.0)])
        }
        Question::DomainBlocks { domain, readers } => {
            let unknowable = domain.contains('\0');
            let domain = if unknowable { "" } else { domain };
            (DOMAIN_BLOCKS, vec![account_ids(readers), Parameter::Text(domain)])
        }
        Question::Filters(accounts) => (FILTERS, vec![account_ids(accounts)]),
    };
    Statement { sql, parameters }
}

fn account_ids(accounts: &Arc<[AccountId]>) -> Parameter<'static> {
    ids(accounts, |AccountId(id)| *id)
}

fn ids<Id>(ids: &Arc<[Id]>, number: impl Fn(&Id) -> i64) -> Parameter<'static> {
    Parameter::Int8Array(ids.iter().map(number).collect())
}
