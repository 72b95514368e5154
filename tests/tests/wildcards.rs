//! The policy's wildcard functions against nats-server's own decisions.
//!
//! The guard grants patterns and the server enforces them; were the two to read a wildcard differently,
//! the policy would say one thing and the bus do another. Each run draws new random cases; a failure
//! prints the seed, and `SEALBUS_SEED=…` repeats it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use sealbus_envelope::subject::Pattern;

fn matches(pattern: &str, text: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches_str(text)
}

fn covers(wide: &str, narrow: &str) -> bool {
    Pattern::parse(wide).unwrap().covers(&Pattern::parse(narrow).unwrap())
}

/// xorshift64*: random enough to draw test cases, and repeatable.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed =
            std::env::var("SEALBUS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).unwrap();
                u64::from_le_bytes(bytes) | 1
            });
        println!("SEALBUS_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % n
    }

    fn tokens(&mut self, from: &[&str], last: &[&str]) -> String {
        let mut tokens: Vec<&str> = (0..self.below(4)).map(|_| from[self.below(from.len())]).collect();
        tokens.push(last[self.below(last.len())]);
        tokens.join(".")
    }

    fn subject(&mut self) -> String {
        self.tokens(&["a", "b", "ab"], &["a", "b", "ab"])
    }

    fn pattern(&mut self) -> String {
        self.tokens(&["a", "b", "ab", "*", "*"], &["a", "b", "*", ">"])
    }
}

/// A nats-server of its own, killed on drop.
struct Server {
    child: Child,
    address: String,
    _files: tempfile::TempDir,
}

impl Server {
    fn start(config: &str) -> Self {
        let binary = std::env::var("NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("nats.conf");
        std::fs::write(&path, format!("listen: \"127.0.0.1:-1\"\n{config}")).unwrap();
        let mut child = Command::new(binary)
            .arg("-c")
            .arg(path)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start nats-server, set NATS_SERVER to it: {error}"));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut log = Vec::new();
        let mut address = None;
        for line in lines.by_ref() {
            if let Some((_, rest)) = line.split_once("Listening for client connections on ") {
                address = Some(rest.trim().to_owned());
            }
            let ready = line.contains("Server is ready");
            log.push(line);
            if ready {
                break;
            }
        }
        let address = address.unwrap_or_else(|| panic!("nats-server did not start: {log:#?}"));
        // The pipe must stay open and empty or the server would block on its log.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _files: files }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the server said up to its answer to our PING.
#[derive(Default)]
struct Heard {
    /// (subscription id, subject) of each delivery.
    messages: BTreeSet<(usize, String)>,
    /// Subjects named in permission violations.
    refused: BTreeSet<String>,
}

/// The NATS protocol by hand: a client library reports violations late and elsewhere.
struct Wire {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Wire {
    fn connect(server: &Server, user: &str) -> Self {
        let writer = TcpStream::connect(&server.address).unwrap();
        let mut reader = BufReader::new(writer.try_clone().unwrap());
        let mut info = String::new();
        reader.read_line(&mut info).unwrap();
        let mut wire = Self { reader, writer };
        wire.send(&format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"user\":\"{user}\",\"pass\":\"p\"}}\r\n"
        ));
        wire
    }

    fn send(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).unwrap();
    }

    fn settle(&mut self) -> Heard {
        self.send("PING\r\n");
        let mut heard = Heard::default();
        loop {
            let mut line = String::new();
            assert_ne!(self.reader.read_line(&mut line).unwrap(), 0, "the server hung up");
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["PONG"] => return heard,
                ["PING"] => self.send("PONG\r\n"),
                ["MSG", subject, id, size] => {
                    heard.messages.insert((id.parse().unwrap(), (*subject).to_owned()));
                    let mut payload = vec![0; size.parse::<usize>().unwrap() + 2];
                    self.reader.read_exact(&mut payload).unwrap();
                }
                ["-ERR", ..] if line.contains("Permissions Violation") => {
                    heard.refused.insert(line.split('"').nth(1).unwrap().to_owned());
                }
                _ => panic!("unexpected line: {line}"),
            }
        }
    }
}

#[test]
fn the_server_delivers_exactly_what_a_pattern_matches() {
    let mut random = Random::new();
    let patterns: Vec<String> = (0..250).map(|_| random.pattern()).collect();
    let subjects: BTreeSet<String> = (0..250).map(|_| random.subject()).collect();
    let server = Server::start("max_subs: 0");
    let mut wire = Wire::connect(&server, "any");
    for (id, pattern) in patterns.iter().enumerate() {
        wire.send(&format!("SUB {pattern} {id}\r\n"));
    }
    wire.settle();
    for subject in &subjects {
        wire.send(&format!("PUB {subject} 0\r\n\r\n"));
        let heard = wire.settle();
        for (id, pattern) in patterns.iter().enumerate() {
            let delivered = heard.messages.contains(&(id, subject.clone()));
            assert_eq!(matches(pattern, subject), delivered, "pattern {pattern}, subject {subject}");
        }
    }
}

#[test]
fn the_server_grants_what_an_allowed_pattern_covers_and_one_known_thing_more() {
    const USERS: usize = 12;
    let mut random = Random::new();
    let allowed: Vec<Vec<String>> =
        (0..USERS).map(|_| (0..=random.below(3)).map(|_| random.pattern()).collect()).collect();
    let users: Vec<String> = allowed
        .iter()
        .enumerate()
        .map(|(n, list)| {
            format!(
                "{{ user: u{n}, password: p, permissions: {{ publish: {{ allow: {list:?} }}, subscribe: {{ allow: {list:?} }} }} }}"
            )
        })
        .collect();
    let server = Server::start(&format!("authorization {{ users: [ {} ] }}", users.join("\n")));
    for (n, allowed) in allowed.iter().enumerate() {
        let mut wire = Wire::connect(&server, &format!("u{n}"));
        let patterns: BTreeSet<String> = (0..80).map(|_| random.pattern()).collect();
        for (id, pattern) in patterns.iter().enumerate() {
            wire.send(&format!("SUB {pattern} {id}\r\n"));
        }
        let refused = wire.settle().refused;
        for pattern in &patterns {
            let accepted = !refused.contains(pattern);
            // nats-server takes the wildcards of the pattern asked for as text: `a.*` lets `a.>` in. The
            // guard's permission lists close that gap with a deny; here we only pin it down exactly.
            let as_text = allowed.iter().any(|wide| matches(wide, pattern));
            let covered = allowed.iter().any(|wide| covers(wide, pattern));
            let widened = allowed.iter().any(|wide| {
                let (Some(wide), Some(asked)) = (wide.strip_suffix('*'), pattern.strip_suffix('>')) else {
                    return false;
                };
                matches(&format!("{wide}*"), &format!("{asked}x"))
            });
            assert_eq!(accepted, as_text, "allowed {allowed:?}, subscribe {pattern}");
            assert_eq!(accepted, covered || widened, "allowed {allowed:?}, subscribe {pattern}");
        }
        let subjects: BTreeSet<String> = (0..80).map(|_| random.subject()).collect();
        for subject in &subjects {
            wire.send(&format!("PUB {subject} 0\r\n\r\n"));
        }
        let refused = wire.settle().refused;
        for subject in &subjects {
            let granted = allowed.iter().any(|wide| matches(wide, subject));
            assert_eq!(granted, !refused.contains(subject), "allowed {allowed:?}, publish {subject}");
        }
    }
}
