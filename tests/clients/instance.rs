//! What Rails tells clients about the instance, so that they find the streaming server.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::json;

/// Answers every request with this description; returns its address.
pub fn instance(streaming: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let urls = json!({"streaming_api": streaming, "streaming": streaming});
    let body = json!({
        "uri": "test.example",
        "domain": "test.example",
        "title": "Test",
        "version": "4.7.0",
        "urls": urls,
        "configuration": {"urls": urls, "timelines_access": {}}
    })
    .to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let answer = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = (&stream).write_all(answer.as_bytes());
        }
    });
    address
}
