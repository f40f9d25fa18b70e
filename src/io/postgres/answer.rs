//! Rows become answers. The order of the columns is that of `sql.rs`.

use hashbrown::HashMap;

use crate::hub::question::{Answer, CustomFilter, FeedSettings, Keyword, Question};
use crate::hub::session::{Scopes, Session};
use crate::protocol::ids::{AccountId, FilterId, ListId, Token, TokenId};
use crate::protocol::postgres::{Columns, Malformed, Row};

const NULL: Malformed = Malformed("a null where the schema allows none");

/// What the rows say to the question.
///
/// Errors: the columns are not those of the question's statement.
pub fn answer(question: &Question, rows: &[Row]) -> Result<Answer, Malformed> {
    Ok(match question {
        Question::Tokens(tokens) => Answer::Sessions(sessions(tokens, rows)?),
        Question::StillValid(_) => {
            let ids = rows.iter().map(|row| int8(&mut row.columns()).map(TokenId));
            Answer::ValidTokens(ids.collect::<Result<_, _>>()?)
        }
        Question::ListOwners(_) => {
            let owners = rows.iter().map(|row| {
                let mut columns = row.columns();
                Ok((ListId(int8(&mut columns)?), AccountId(int8(&mut columns)?)))
            });
            Answer::ListOwners(owners.collect::<Result<_, _>>()?)
        }
        Question::FeedSettings => Answer::FeedSettings(feed_settings(rows)?),
        Question::BlocksAndMutes { .. } | Question::DomainBlocks { .. } => {
            let ids = rows.iter().map(|row| int8(&mut row.columns()).map(AccountId));
            Answer::Accounts(ids.collect::<Result<_, _>>()?)
        }
        Question::Filters(_) => Answer::Filters(filters(rows)?),
    })
}

fn int8(columns: &mut Columns<'_>) -> Result<i64, Malformed> {
    columns.int8()?.ok_or(NULL)
}

/// In the order of the tokens asked about; a token may have been asked about twice.
fn sessions(tokens: &[Token], rows: &[Row]) -> Result<Vec<Option<Session>>, Malformed> {
    let mut found: HashMap<&str, Session> = HashMap::with_capacity(rows.len());
    for row in rows {
        let mut columns = row.columns();
        let token = columns.text()?.ok_or(NULL)?;
        let id = TokenId(int8(&mut columns)?);
        let account = AccountId(int8(&mut columns)?);
        let scopes = Scopes::parse(columns.text()?.ok_or(NULL)?);
        let languages = columns.texts()?;
        let languages = languages.map(|codes| Box::new(codes.into_iter().map(Box::from).collect()));
        let views_all_feeds = columns.bool()?.ok_or(NULL)?;
        found.insert(token, Session { account, token: id, scopes, views_all_feeds, languages });
    }
    Ok(tokens.iter().map(|token| found.get(token.reveal()).cloned()).collect())
}

fn feed_settings(rows: &[Row]) -> Result<FeedSettings, Malformed> {
    let mut settings = FeedSettings::default();
    for row in rows {
        let mut columns = row.columns();
        let var = columns.text()?.ok_or(NULL)?;
        let disabled = columns.text()?.is_some_and(is_disabled);
        match var {
            "local_live_feed_access" => settings.local_live_disabled = disabled,
            "remote_live_feed_access" => settings.remote_live_disabled = disabled,
            "local_topic_feed_access" => settings.local_topic_disabled = disabled,
            "remote_topic_feed_access" => settings.remote_topic_disabled = disabled,
            _ => {}
        }
    }
    Ok(settings)
}

/// Rails writes `--- disabled\n`. White space and quotes make no difference to YAML: never show
/// what was closed because somebody wrote it by hand.
fn is_disabled(yaml: &str) -> bool {
    let value = yaml.strip_prefix("---").unwrap_or(yaml).trim();
    value.trim_matches(['"', '\'']) == "disabled"
}

/// The rows come ordered by filter and keyword: the rows of one filter stand together.
fn filters(rows: &[Row]) -> Result<Vec<CustomFilter>, Malformed> {
    let mut filters: Vec<CustomFilter> = Vec::new();
    for row in rows {
        let mut columns = row.columns();
        let id = FilterId(int8(&mut columns)?);
        let account = AccountId(int8(&mut columns)?);
        let title = columns.text()?.ok_or(NULL)?;
        let context = columns.texts()?.unwrap_or_default();
        // `infinity` never comes: as good as no expiry.
        let expires = columns.timestamp_unix_millis()?.filter(|millis| *millis != i64::MAX);
        let action = columns.int4()?.ok_or(NULL)?;
        let keyword = columns.text()?.unwrap_or_default().into();
        let keyword = Keyword { keyword, whole_word: columns.bool()?.ok_or(NULL)? };
        match filters.last_mut() {
            Some(filter) if filter.id == id => filter.keywords.push(keyword),
            _ => filters.push(CustomFilter {
                id,
                account,
                title: title.into(),
                context: context.into_iter().map(Box::from).collect(),
                expires_at_unix_millis: expires,
                action,
                keywords: vec![keyword],
            }),
        }
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_disabled_closes_a_feed() {
        for yaml in
            ["--- disabled\n", "--- disabled", "disabled", "--- 'disabled'\n", "---\ndisabled\n"]
        {
            assert!(is_disabled(yaml), "{yaml:?}");
        }
        for yaml in ["--- public\n", "--- authenticated\n", "", "--- \n", "--- :disabled_not\n"] {
            assert!(!is_disabled(yaml), "{yaml:?}");
        }
    }
}
