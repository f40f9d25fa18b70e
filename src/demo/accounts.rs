//! The readers of the demonstration with their tokens, and a [`Database`] in memory that answers
//! for them as Postgres would.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::cast::{Filter, PEOPLE, Person, READERS, Reader};
use crate::hub::moment::Moment;
use crate::hub::question::{Answer, CustomFilter, FeedSettings, Keyword, Question, Unanswered};
use crate::hub::session::{Scopes, Session};
use crate::io::database::{Database, PoolStats, Ticket};
use crate::io::poller::{Poller, Readiness};
use crate::protocol::ids::{AccountId, FilterId, ListId, Token, TokenId};

/// The tokens of [`READERS`], in their order: new ones at each start.
#[derive(Clone, Debug)]
pub struct Tokens {
    tokens: Arc<[Token]>,
}

impl Tokens {
    /// Draws a token of 256 bits for each reader from the kernel's generator.
    ///
    /// Errors: `/dev/urandom` cannot be read.
    pub fn draw() -> io::Result<Tokens> {
        let mut random = File::open("/dev/urandom")?;
        let tokens: io::Result<Arc<[Token]>> = READERS
            .iter()
            .map(|_| {
                let mut bytes = [0_u8; 32];
                random.read_exact(&mut bytes)?;
                Ok(Token::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
            })
            .collect();
        Ok(Tokens { tokens: tokens? })
    }

    /// Each token with the number of its reader.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Token)> {
        self.tokens.iter().enumerate()
    }

    /// `oauth_access_tokens.id` of reader number `reader`'s token.
    pub fn id(reader: usize) -> TokenId {
        TokenId(5_000_000 + i64::try_from(reader).unwrap_or(0))
    }
}

/// The database.
pub struct Accounts {
    tokens: Tokens,
    /// Answers that the next turn hands out.
    answers: Vec<(Ticket, Answer)>,
    answered: u64,
}

impl Accounts {
    /// A database of [`READERS`] with these tokens.
    pub fn new(tokens: Tokens) -> Accounts {
        Accounts { tokens, answers: Vec::new(), answered: 0 }
    }

    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Tokens(tokens) => {
                Answer::Sessions(tokens.iter().map(|token| self.session(token)).collect())
            }
            Question::StillValid(ids) => {
                let known = |id: &&TokenId| (0..READERS.len()).any(|n| Tokens::id(n) == **id);
                Answer::ValidTokens(ids.iter().filter(known).copied().collect())
            }
            Question::ListOwners(lists) => Answer::ListOwners(list_owners(lists)),
            Question::FeedSettings => Answer::FeedSettings(FeedSettings::default()),
            Question::BlocksAndMutes { author, mentions } => {
                Answer::Accounts(blocks_and_mutes(*author, mentions))
            }
            Question::DomainBlocks { domain, readers } => {
                Answer::Accounts(domain_blocks(domain, readers))
            }
            Question::Filters(accounts) => Answer::Filters(filters(accounts)),
        }
    }

    fn session(&self, token: &Token) -> Option<Session> {
        let (number, _) = self.tokens.iter().find(|(_, known)| *known == token)?;
        let reader = READERS.get(number)?;
        let languages = reader.languages.map(|languages| {
            Box::new(languages.iter().map(|language| Box::from(*language)).collect())
        });
        Some(Session {
            account: Person::id(number),
            token: Tokens::id(number),
            scopes: Scopes::parse(reader.scopes),
            views_all_feeds: reader.views_all_feeds,
            languages,
        })
    }
}

impl Database for Accounts {
    fn ask(&mut self, ticket: Ticket, question: Question, _: Moment) {
        self.answers.push((ticket, self.answer(&question)));
    }

    fn turn(
        &mut self,
        _: Moment,
        _: &[Readiness],
        _: &Poller,
        sink: &mut dyn FnMut(Ticket, Result<Answer, Unanswered>),
    ) {
        for (ticket, answer) in self.answers.drain(..) {
            self.answered += 1;
            sink(ticket, Ok(answer));
        }
    }

    fn next_deadline(&self) -> Option<Moment> {
        (!self.answers.is_empty()).then_some(Moment::default())
    }

    fn stats(&self) -> PoolStats {
        PoolStats { total: 1, open: 1, idle: 1, waiting: 0, answered: self.answered, failed: 0 }
    }

    fn take_troubles(&mut self) -> Vec<String> {
        Vec::new()
    }
}

fn readers() -> impl Iterator<Item = (AccountId, usize, &'static Reader)> {
    READERS.iter().enumerate().map(|(number, reader)| (Person::id(number), number, reader))
}

fn list_owners(lists: &[ListId]) -> Vec<(ListId, AccountId)> {
    readers()
        .flat_map(|(account, number, reader)| {
            (0..reader.lists.len()).map(move |list| (Reader::list_id(number, list), account))
        })
        .filter(|(list, _)| lists.contains(list))
        .collect()
}

/// The readers who block or mute the author or somebody mentioned. Nobody is blocked by an author
/// here but by the readers who write themselves.
fn blocks_and_mutes(author: AccountId, mentions: &[AccountId]) -> Vec<AccountId> {
    let id_of = |username: &&str| Person::id(Person::index_of(username));
    let mut withheld = Vec::new();
    for (account, _, reader) in readers() {
        let mut avoided = reader.blocks.iter().chain(reader.mutes).map(id_of);
        if avoided.any(|avoided| avoided == author || mentions.contains(&avoided)) {
            withheld.push(account);
        }
        if account == author {
            withheld.extend(reader.blocks.iter().map(id_of));
        }
    }
    withheld
}

fn domain_blocks(domain: &str, asked: &[AccountId]) -> Vec<AccountId> {
    readers()
        .filter(|(account, _, reader)| {
            asked.contains(account) && reader.blocked_domains.contains(&domain)
        })
        .map(|(account, _, _)| account)
        .collect()
}

fn filters(accounts: &[AccountId]) -> Vec<CustomFilter> {
    readers()
        .filter(|(account, _, _)| accounts.contains(account))
        .flat_map(|(account, number, reader)| {
            reader.filters.iter().enumerate().map(move |(index, filter)| {
                let id = i64::try_from(number * 100 + index + 1).unwrap_or(0);
                custom_filter(FilterId(id), account, filter)
            })
        })
        .collect()
}

fn custom_filter(id: FilterId, account: AccountId, filter: &Filter) -> CustomFilter {
    let keyword = |(keyword, whole_word): &(&str, bool)| Keyword {
        keyword: Box::from(*keyword),
        whole_word: *whole_word,
    };
    CustomFilter {
        id,
        account,
        title: filter.title.into(),
        context: vec!["home".into(), "public".into()],
        expires_at_unix_millis: None,
        action: filter.hide.into(),
        keywords: filter.keywords.iter().map(keyword).collect(),
    }
}

/// The name of reader number `reader`.
pub fn username(reader: usize) -> &'static str {
    PEOPLE.get(reader).map_or("", |person| person.username)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks one question and takes its answer, as the control core does.
    fn asked(accounts: &mut Accounts, question: Question) -> Answer {
        assert_eq!(accounts.next_deadline(), None);
        accounts.ask(Ticket(7), question, Moment(5));
        assert!(accounts.next_deadline().unwrap() <= Moment(5), "wants a turn at once");
        let poller = Poller::new(1).unwrap();
        let mut answers = Vec::new();
        accounts.turn(Moment(5), &[], &poller, &mut |ticket, answer| {
            assert_eq!(ticket, Ticket(7));
            answers.push(answer.unwrap());
        });
        assert_eq!(answers.len(), 1, "one answer to each question");
        answers.remove(0)
    }

    fn id(username: &str) -> AccountId {
        Person::id(Person::index_of(username))
    }

    #[test]
    fn tokens_are_new_at_each_start_and_name_their_reader() {
        let (tokens, others) = (Tokens::draw().unwrap(), Tokens::draw().unwrap());
        let mut accounts = Accounts::new(tokens.clone());
        let mut question: Vec<Token> = tokens.iter().map(|(_, token)| token.clone()).collect();
        question.push(others.iter().next().unwrap().1.clone());
        let Answer::Sessions(sessions) = asked(&mut accounts, Question::Tokens(question.into()))
        else {
            panic!("no sessions");
        };
        assert_eq!(sessions.len(), READERS.len() + 1);
        assert_eq!(sessions.last(), Some(&None), "a token of another start is unknown");
        assert_eq!(sessions[0].as_ref().unwrap().account, id("ada"));
        assert!(!sessions[4].as_ref().unwrap().scopes.notifications());
        let languages = sessions[1].as_ref().unwrap().languages.as_ref().unwrap();
        assert_eq!(languages.as_slice(), [Box::from("de"), Box::from("en")]);
        assert!(!format!("{tokens:?}").contains(tokens.tokens[0].reveal()));
    }

    #[test]
    fn blocks_and_mutes_hold_both_ways_and_for_mentions() {
        let mut accounts = Accounts::new(Tokens::draw().unwrap());
        for (author, mentions, withheld) in [
            ("grumble", vec![], vec!["nour"]),
            ("rex", vec![], vec!["nour"]),
            ("kai", vec![id("grumble")], vec!["nour"]),
            ("nour", vec![], vec!["grumble"]),
            ("kai", vec![id("ada")], vec![]),
        ] {
            let question =
                Question::BlocksAndMutes { author: id(author), mentions: mentions.into() };
            let Answer::Accounts(found) = asked(&mut accounts, question) else { panic!() };
            assert_eq!(found, withheld.into_iter().map(id).collect::<Vec<_>>(), "{author}");
        }
    }

    #[test]
    fn a_domain_is_blocked_only_for_the_readers_asked_about() {
        let mut accounts = Accounts::new(Tokens::draw().unwrap());
        let mut blocked = |domain: &str, readers: &[&str]| {
            let readers: Vec<AccountId> = readers.iter().map(|name| id(name)).collect();
            let question =
                Question::DomainBlocks { domain: domain.into(), readers: readers.into() };
            match asked(&mut accounts, question) {
                Answer::Accounts(found) => found,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(blocked("museu.example", &["ada", "nour"]), [id("nour")]);
        assert_eq!(blocked("museu.example", &["ada"]), []);
        assert_eq!(blocked("lab.example", &["nour"]), []);
    }

    #[test]
    fn lists_filters_and_tokens_answer_for_what_exists_alone() {
        let mut accounts = Accounts::new(Tokens::draw().unwrap());
        let lists = [Reader::list_id(0, 1), Reader::list_id(1, 0), ListId(9)];
        let Answer::ListOwners(owners) = asked(&mut accounts, Question::ListOwners(lists.into()))
        else {
            panic!("no owners");
        };
        assert_eq!(owners, [(lists[0], id("ada")), (lists[1], id("bruno"))]);

        let question = Question::Filters([id("ada"), id("chiyo")].into());
        let Answer::Filters(filters) = asked(&mut accounts, question) else { panic!() };
        assert_eq!(filters.len(), 2);
        assert!(filters.is_sorted_by_key(|filter| filter.id));
        assert!(filters.iter().all(|filter| filter.account == id("chiyo")));

        let question = Question::StillValid([TokenId(1), Tokens::id(2)].into());
        let Answer::ValidTokens(valid) = asked(&mut accounts, question) else { panic!() };
        assert_eq!(valid, [Tokens::id(2)]);
    }

    #[test]
    fn everybody_that_a_reader_names_exists() {
        for reader in &READERS {
            let lists = reader.lists.iter().flat_map(|(_, members)| *members);
            let named = reader.follows.iter().chain(reader.blocks).chain(reader.mutes).chain(lists);
            for username in named {
                assert!(PEOPLE.iter().any(|person| person.username == *username), "{username}");
            }
            for domain in reader.blocked_domains {
                assert!(PEOPLE.iter().any(|person| person.domain == Some(domain)), "{domain}");
            }
        }
    }
}
