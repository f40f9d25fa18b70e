//! The properties of a conversation, against scripted servers. Real servers:
//! `tests/postgres_client.rs`.

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::config::Secret;

const BOUND: usize = 4096;

fn login(password: Option<&str>) -> Login {
    Login {
        user: "mastodon".into(),
        database: "mastodon_test".into(),
        password: password.map(Secret::new),
        application_name: String::new(),
        options: None,
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.put_u32(u32::try_from(body.len()).unwrap() + 4);
    message.put_slice(body);
    message
}

fn greeting() -> Vec<u8> {
    [
        message(b'R', &0u32.to_be_bytes()),
        message(b'S', b"server_version\x0015.0\0"),
        message(b'K', &[0; 8]),
        message(b'Z', b"I"),
    ]
    .concat()
}

fn row(columns: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u16(u16::try_from(columns.len()).unwrap());
    for column in columns {
        match column {
            None => body.put_i32(-1),
            Some(bytes) => {
                body.put_i32(i32::try_from(bytes.len()).unwrap());
                body.put_slice(bytes);
            }
        }
    }
    message(b'D', &body)
}

fn reply(rows: &[Vec<u8>]) -> Vec<u8> {
    let (start, end) = ([message(b'1', b""), message(b'2', b"")].concat(), message(b'Z', b"I"));
    [start, rows.concat(), message(b'C', b"SELECT\0"), end].concat()
}

fn error(fields: &str) -> Vec<u8> {
    message(b'E', format!("{}\0", fields.replace('|', "\0")).as_bytes())
}

const SELECT: Statement<'static> = Statement { sql: "select 1::int8", parameters: Vec::new() };

/// What happened, comparable.
fn told(happening: Result<Option<Happening>, Failure>) -> Option<String> {
    match happening {
        Ok(None) => None,
        Ok(Some(Happening::Open)) => Some("open".into()),
        Ok(Some(Happening::Reply(Ok(rows)))) => {
            let values = rows.iter().map(|row| row.columns().int8());
            Some(format!("{:?}", values.collect::<Vec<_>>()))
        }
        Ok(Some(Happening::Reply(Err(error)))) => Some(error.to_string()),
        Err(failure) => Some(format!("failure: {failure}")),
    }
}

/// Feeds the pieces one by one; asks two statements as soon as the conversation is open.
fn converse(pieces: &[&[u8]]) -> Vec<String> {
    let mut output = BytesMut::new();
    let mut conversation = Conversation::start(login(None), BOUND, &mut output).unwrap();
    let (mut input, mut all) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some(text) = told(conversation.receive(&mut input, &mut output)) {
            let failed = text.starts_with("failure");
            if text == "open" {
                conversation.ask(&SELECT, &mut output).unwrap();
                conversation.ask(&SELECT, &mut output).unwrap();
            }
            all.push(text);
            if failed {
                return all;
            }
        }
    }
    all
}

/// One failure of a server that sends this first.
fn refusal(password: Option<&str>, bytes: &[u8]) -> Failure {
    let mut output = BytesMut::new();
    let mut conversation = Conversation::start(login(password), BOUND, &mut output).unwrap();
    match conversation.receive(&mut BytesMut::from(bytes), &mut output) {
        Err(failure) => failure,
        Ok(happening) => panic!("{happening:?}"),
    }
}

fn whole_script() -> Vec<u8> {
    [
        greeting(),
        message(b'N', b"SNOTICE\0Mpsst\0\0"),
        reply(&[row(&[Some(&7i64.to_be_bytes())]), row(&[None])]),
        error("SERROR|C42P01|Mno table|Dsecret detail|"),
        message(b'Z', b"I"),
        error("SFATAL|C57P01|Mstopping|"),
    ]
    .concat()
}

#[test]
fn a_conversation_is_understood() {
    let expected = [
        "open",
        "[Ok(Some(7)), Ok(None)]",
        "the server says: no table (SQLSTATE 42P01)",
        "failure: the server says: stopping (SQLSTATE 57P01)",
    ];
    assert_eq!(converse(&[&whole_script()]), expected);
}

proptest! {
    #[test]
    fn any_chopping_tells_the_same(cuts in prop::collection::vec(0..400usize, 0..40)) {
        let script = whole_script();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(script.len())).collect();
        cuts.extend([0, script.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &script[pair[0]..pair[1]]).collect();
        prop_assert_eq!(converse(&pieces), converse(&[&script]));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        converse(&[&bytes]);
        converse(&[&greeting(), &bytes]);
    }

    #[test]
    fn any_body_of_any_message_is_survived(
        kind in prop::sample::select(b"RSKZTDCEN12nAtIGHWcdsv3".to_vec()),
        body in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        converse(&[&message(kind, &body)]);
        converse(&[&greeting(), &message(kind, &body), &message(b'Z', b"I")]);
    }

    #[test]
    fn any_row_is_survived_by_every_reader(body in prop::collection::vec(any::<u8>(), 2..80)) {
        let mut script = greeting();
        script.extend(reply(&[message(b'D', &body)]));
        let mut output = BytesMut::new();
        let mut conversation = Conversation::start(login(None), BOUND, &mut output).unwrap();
        let mut input = BytesMut::from(&script[..]);
        conversation.receive(&mut input, &mut output).unwrap();
        conversation.ask(&SELECT, &mut output).unwrap();
        let Ok(Some(Happening::Reply(Ok(rows)))) = conversation.receive(&mut input, &mut output)
        else { return Ok(()) };
        for row in &rows {
            let (mut a, mut b, mut c) = (row.columns(), row.columns(), row.columns());
            let _ = (a.texts(), a.texts(), b.timestamp_unix_millis(), b.text(), b.bool());
            let _ = (c.int4(), c.int8(), c.bool());
        }
    }
}

#[test]
fn a_hostile_length_is_refused_or_waited_for_without_memory() {
    for length in [u32::MAX, i32::MAX as u32, BOUND as u32 + 1] {
        let mut bytes = vec![b'D'];
        bytes.put_u32(length);
        let all = converse(&[&greeting(), &bytes]);
        assert!(all.last().unwrap().starts_with("failure"), "{length}: {all:?}");
    }
    let mut output = BytesMut::new();
    let mut conversation = Conversation::start(login(None), 64 * 1024 * 1024, &mut output).unwrap();
    let mut input = BytesMut::from(&b"R\x03\x00\x00\x00"[..]);
    assert!(conversation.receive(&mut input, &mut output).unwrap().is_none());
    assert!(input.capacity() < 1024, "{}", input.capacity());
}

#[test]
fn a_reply_of_many_small_rows_is_bounded() {
    let rows = vec![row(&[None]); BOUND];
    let all = converse(&[&greeting(), &reply(&rows)]);
    assert_eq!(all.last().unwrap(), "failure: the reply is longer than 4096 bytes");
}

#[test]
fn what_an_error_quotes_is_not_kept() {
    let all = converse(&[&greeting(), &error("SERROR|C22021|Mbad|Dtok-secret|Wtok-secret|")]);
    assert!(!format!("{all:?}").contains("tok-secret"));
    let parameters = vec![Parameter::Text("tok-secret"), Parameter::TextArray(vec!["tok-secret"])];
    let statement = Statement { sql: "select $1", parameters };
    assert!(!format!("{statement:?}").contains("tok-secret"));
}

#[test]
fn a_server_that_skips_its_proof_is_not_believed() {
    let sasl = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let script = [sasl, greeting()].concat();
    assert_eq!(refusal(Some("secret"), &script), Failure::Login(LoginProblem::ServerNotProven));
}

#[test]
fn mechanisms_that_we_lack_are_refused_politely() {
    let plus_only = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0");
    let failure = refusal(Some("secret"), &plus_only);
    assert_eq!(failure, Failure::Login(LoginProblem::NoCommonMechanism));
    let gss = message(b'R', &7u32.to_be_bytes());
    assert_eq!(refusal(Some("secret"), &gss), Failure::Login(LoginProblem::UnknownMethod));
}

#[test]
fn a_password_that_is_wanted_and_missing_is_named() {
    for method in [&b"\0\0\0\x03"[..], b"\0\0\0\x05salt", b"\0\0\0\x0aSCRAM-SHA-256\0\0"] {
        for password in [None, Some("")] {
            let failure = refusal(password, &message(b'R', method));
            assert_eq!(failure, Failure::Login(LoginProblem::NoPassword));
        }
    }
}

#[test]
fn an_empty_application_name_is_not_sent_and_a_nul_is_refused() {
    let mut output = BytesMut::new();
    Conversation::start(login(None), BOUND, &mut output).unwrap();
    assert!(memchr::memmem::find(&output, b"application_name").is_none());
    let with_nul = Login { user: "a\0b".into(), ..login(None) };
    let failure = Conversation::start(with_nul, BOUND, &mut output).err();
    assert_eq!(failure, Some(Failure::Login(LoginProblem::Unwritable)));
}

#[test]
fn timestamps_are_unix_milliseconds_rounded_down() {
    let mut script = greeting();
    let micros = [0i64, 1999, -1, i64::MAX];
    let rows: Vec<Vec<u8>> =
        micros.iter().map(|value| row(&[Some(&value.to_be_bytes())])).collect();
    script.extend(reply(&rows));
    let mut output = BytesMut::new();
    let mut conversation = Conversation::start(login(None), BOUND, &mut output).unwrap();
    let mut input = BytesMut::from(&script[..]);
    conversation.receive(&mut input, &mut output).unwrap();
    conversation.ask(&SELECT, &mut output).unwrap();
    let Ok(Some(Happening::Reply(Ok(rows)))) = conversation.receive(&mut input, &mut output) else {
        panic!("no reply");
    };
    let read = rows.iter().map(|row| row.columns().timestamp_unix_millis().unwrap().unwrap());
    let epoch = 946_684_800_000;
    assert_eq!(read.collect::<Vec<_>>(), [epoch, epoch + 1, epoch - 1, i64::MAX]);
}
