//! nginx as it comes, in front of the server: buffering is on, and to the server it speaks HTTP/1.0
//! unless it is told otherwise.

use std::fs;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::ports::Port;
use crate::support::process::{Launch, Process, scratch};

/// A running nginx, one process.
pub struct Nginx {
    _process: Process,
    port: Port,
    _directory: TempDir,
}

impl Nginx {
    /// Starts one before the server on this port.
    #[track_caller]
    pub fn start(server: u16) -> Nginx {
        let directory = scratch("nginx");
        let port = Port::take();
        let home = directory.path().display().to_string();
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration(&home, port.number(), server)).expect("write nginx.conf");
        let command = ["/usr/sbin/nginx", "-p", &home, "-e", "stderr", "-c", "nginx.conf"];
        let mut process = Process::start(Launch {
            command: command.map(ToString::to_string).into(),
            environment: None,
            directory: directory.path(),
            output: directory.path().join("log"),
            user: None,
            end: Signal::KILL,
        });
        process.await_port(port.number());
        Nginx { _process: process, port, _directory: directory }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}

fn configuration(home: &str, port: u16, server: u16) -> String {
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {home}/{name};\n"))
        .concat();
    format!(
        "daemon off;
master_process off;
pid {home}/pid;
events {{ worker_connections 1000; }}
http {{
    access_log off;
{folders}
    upstream streaming {{ server 127.0.0.1:{server}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{server}; }}
        location /keep-alive/ {{
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_pass http://streaming/;
        }}
        location /gzip/ {{
            gzip on;
            gzip_types text/event-stream;
            proxy_http_version 1.1;
            proxy_pass http://127.0.0.1:{server}/;
        }}
    }}
}}
"
    )
}
