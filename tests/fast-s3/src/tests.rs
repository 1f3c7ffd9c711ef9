//! The server as clients see it, over real connections: bytes on the wire, because no client sends all of these forms.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Counters, FastS3, Pace};

/// A server with one bucket, `b`.
struct Served {
    root: TempDir,
    server: FastS3,
}

fn served() -> Served {
    let root = tempfile::tempdir().unwrap();
    let server = FastS3::start(root.path()).unwrap();
    server.create_bucket("b").unwrap();
    Served { root, server }
}

impl Served {
    fn connect(&self) -> Client {
        let endpoint = self.server.endpoint();
        let address = endpoint.strip_prefix("http://").unwrap();
        Client(BufReader::new(TcpStream::connect(address).unwrap()))
    }

    /// Sends one request on a connection of its own.
    fn ask(&self, line: &str, headers: &[&str], body: &[u8]) -> Reply {
        self.connect().ask(line, headers, body)
    }

    fn counters(&self) -> Counters {
        self.server.counters()
    }

    /// What lies in the bucket, files that are being received included.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.path().join("b")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

struct Client(BufReader<TcpStream>);

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        Some(lines.find(|(known, _)| known.eq_ignore_ascii_case(name))?.1)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn etag(&self) -> &str {
        self.header("ETag").unwrap()
    }
}

impl Client {
    /// A request whose head says how long its body is, unless a header says how it is framed.
    fn ask(&mut self, line: &str, headers: &[&str], body: &[u8]) -> Reply {
        let mut head = format!("{line} HTTP/1.1\r\nHost: x\r\n");
        for header in headers {
            head.push_str(&format!("{header}\r\n"));
        }
        if !headers
            .iter()
            .any(|header| header.starts_with("Transfer-Encoding"))
        {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.0.get_mut().write_all(&bytes).unwrap();
        self.reply(line.starts_with("HEAD"))
    }

    fn reply(&mut self, is_head: bool) -> Reply {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(
                self.0.read_line(&mut head).unwrap() > 0,
                "ended after {head:?}"
            );
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply {
            status,
            head,
            body: Vec::new(),
        };
        let length = reply
            .header("Content-Length")
            .map_or(0, |text| text.parse().unwrap());
        if !is_head {
            reply.body = vec![0; length];
            self.0.read_exact(&mut reply.body).unwrap();
        }
        reply
    }
}

#[test]
fn an_object_comes_back_with_what_was_said_of_it() {
    let served = served();
    let said = [
        "Content-Type: text/x",
        "x-amz-meta-Asset-Root: /a b",
        "x-amz-acl: no",
    ];
    let put = served.ask("PUT /b/some/a%20%C3%A9+", &said, b"hello");
    assert_eq!(put.status, 200);
    let got = served.ask("GET /b/some/a%20%C3%A9+", &[], b"");
    assert_eq!((got.status, got.text()), (200, "hello"));
    assert_eq!(got.header("Content-Type"), Some("text/x"));
    assert_eq!(got.header("x-amz-meta-asset-root"), Some("/a b"));
    assert_eq!(got.header("x-amz-acl"), None);
    assert_eq!(got.etag(), put.etag());
    let file = served.root.path().join("b/some/a \u{e9}+");
    assert_eq!(fs::read(file).unwrap(), b"hello");
}

#[test]
fn the_head_of_an_object_is_the_same_without_its_bytes() {
    let served = served();
    served.ask("PUT /b/k", &["x-amz-meta-a: 1"], b"hello");
    let head = served.ask("HEAD /b/k", &[], b"").head;
    assert_eq!(head, served.ask("GET /b/k", &[], b"").head);
}

#[test]
fn what_is_not_there_is_not_found() {
    let served = served();
    served.ask("PUT /b/dir/k", &[], b"");
    for target in [
        "/b/k",
        "/b/dir",
        "/b/dir/",
        "/b/dir/k/x",
        "/no/k",
        "/b/../b/dir/k",
    ] {
        let got = served.ask(&format!("GET {target}"), &[], b"");
        assert_eq!(got.status, 404, "{target}");
        assert_eq!(
            served.ask(&format!("HEAD {target}"), &[], b"").status,
            404,
            "{target}"
        );
    }
    assert_eq!(served.counters().not_found, 12);
}

#[test]
fn a_range_is_answered_as_the_part_that_is_there() {
    let served = served();
    served.ask("PUT /b/k", &[], b"0123456789");
    let range = |text: &str| served.ask("GET /b/k", &[&format!("Range: bytes={text}")], b"");
    for (text, expected, place) in [
        ("2-4", "234", "bytes 2-4/10"),
        ("8-99", "89", "bytes 8-9/10"),
        ("7-", "789", "bytes 7-9/10"),
        ("-3", "789", "bytes 7-9/10"),
    ] {
        let got = range(text);
        assert_eq!((got.status, got.text()), (206, expected), "{text}");
        assert_eq!(got.header("Content-Range"), Some(place), "{text}");
    }
    assert_eq!(range("10-").status, 416);
    assert_eq!((range("4-2").status, range("what").status), (200, 200));
}

#[test]
fn all_framings_of_a_body_are_taken_off() {
    let served = served();
    let signed = "5;chunk-signature=00\r\nhello\r\n6;chunk-signature=00\r\n world\r\n\
                  0;chunk-signature=00\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    let unsigned = "b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    let plain = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let both = format!("{:x}\r\n{unsigned}\r\n0\r\n\r\n", unsigned.len());
    let decoded = "x-amz-decoded-content-length: 11";
    let aws = "Content-Encoding: aws-chunked";
    let chunked = "Transfer-Encoding: chunked";
    let streaming = "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
    let mut client = served.connect();
    for (headers, body) in [
        (vec![], "hello world"),
        (vec![chunked], plain),
        (vec![streaming, decoded], signed),
        (vec![aws, decoded], unsigned),
        (vec![chunked, aws, decoded], both.as_str()),
    ] {
        let put = client.ask("PUT /b/k", &headers, body.as_bytes());
        assert_eq!(put.status, 200, "{headers:?}");
        // On the same connection: nothing of the body was left on it.
        assert_eq!(
            client.ask("GET /b/k", &[], b"").text(),
            "hello world",
            "{headers:?}"
        );
    }
}

#[test]
fn a_client_that_waits_is_told_to_go_on() {
    let served = served();
    let mut client = served.connect();
    let head = b"PUT /b/k HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    client.0.get_mut().write_all(head).unwrap();
    assert_eq!(client.reply(false).status, 100);
    client.0.get_mut().write_all(b"ok").unwrap();
    assert_eq!(client.reply(false).status, 200);
}

#[test]
fn an_object_that_is_there_is_replaced_only_as_the_condition_says() {
    let served = served();
    let absent = ["If-None-Match: *"];
    let put = served.ask("PUT /b/k", &absent, b"first");
    assert_eq!(put.status, 200);
    assert_eq!(served.ask("PUT /b/k", &absent, b"second").status, 412);
    assert_eq!(
        served
            .ask("PUT /b/k", &["If-Match: \"other\""], b"second")
            .status,
        412
    );
    assert_eq!(served.ask("GET /b/k", &[], b"").text(), "first");
    let is = format!("If-Match: {}", put.etag());
    assert_eq!(served.ask("PUT /b/k", &[&is], b"third").status, 200);
    assert_eq!(served.ask("PUT /b/k", &[&is], b"fourth").status, 412);
    assert_eq!(served.ask("GET /b/k", &[], b"").text(), "third");
    assert_eq!(served.names(), ["k"]);
}

#[test]
fn an_object_is_given_only_as_the_condition_says() {
    let served = served();
    let put = served.ask("PUT /b/k", &[], b"x");
    let get = |name: &str, etag: &str| {
        let header = format!("{name}: {etag}");
        served.ask("GET /b/k", &[&header], b"").status
    };
    assert_eq!(
        (get("If-Match", put.etag()), get("If-Match", "\"other\"")),
        (200, 412)
    );
    assert_eq!(
        (
            get("If-None-Match", put.etag()),
            get("If-None-Match", "\"other\"")
        ),
        (304, 200)
    );
}

#[test]
fn a_body_that_breaks_off_leaves_nothing() {
    let served = served();
    let mut client = served.connect();
    let head = b"PUT /b/k HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello";
    client.0.get_mut().write_all(head).unwrap();
    client
        .0
        .get_ref()
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    let mut rest = Vec::new();
    client.0.read_to_end(&mut rest).unwrap();
    assert!(served.names().is_empty(), "{:?}", served.names());
}

impl Served {
    /// Uploads these parts in this order and ends the upload with them in the order of their numbers.
    fn upload(&self, parts: &[(u32, &str)]) -> Reply {
        let created = self.ask("POST /b/dir/k?uploads=", &["x-amz-meta-a: 1"], b"");
        let id = crate::xml::texts(created.text(), "UploadId")[0].to_owned();
        for (number, text) in parts {
            let line = format!("PUT /b/dir/k?partNumber={number}&uploadId={id}");
            assert_eq!(self.ask(&line, &[], text.as_bytes()).status, 200);
        }
        let mut numbers: Vec<_> = parts.iter().map(|(number, _)| number).collect();
        numbers.sort();
        numbers.dedup();
        let listed = numbers
            .iter()
            .map(|number| format!("<Part><ETag>x</ETag><PartNumber>{number}</PartNumber></Part>"))
            .collect::<Vec<_>>()
            .concat();
        let body = format!("<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>");
        self.ask(
            &format!("POST /b/dir/k?uploadId={id}"),
            &[],
            body.as_bytes(),
        )
    }
}

#[test]
fn parts_become_one_object_in_whatever_order_and_lengths_they_came() {
    for (parts, expected) in [
        (vec![(1, "aaaa"), (2, "bbbb"), (3, "cc")], "aaaabbbbcc"),
        (vec![(2, "bbbb"), (1, "aaaa"), (3, "cc")], "aaaabbbbcc"),
        (vec![(3, "cc"), (1, "aaaa"), (2, "bbbb")], "aaaabbbbcc"),
        (vec![(2, "bb"), (3, "ccc"), (1, "a")], "abbccc"),
        (vec![(1, "aa"), (5, "b"), (7, "cc")], "aabcc"),
        (vec![(1, "old!"), (2, "bb"), (1, "aa")], "aabb"),
        (vec![(1, "a")], "a"),
    ] {
        let served = served();
        let done = served.upload(&parts);
        assert_eq!(done.status, 200, "{parts:?}");
        let got = served.ask("GET /b/dir/k", &[], b"");
        assert_eq!(got.text(), expected, "{parts:?}");
        assert_eq!(got.header("x-amz-meta-a"), Some("1"));
        let left = fs::read_dir(served.root.path().join("b/dir"))
            .unwrap()
            .count();
        assert_eq!(left, 1, "{parts:?}");
    }
}

#[test]
fn an_upload_that_is_given_up_leaves_nothing() {
    let served = served();
    let created = served.ask("POST /b/k?uploads", &[], b"");
    let id = crate::xml::texts(created.text(), "UploadId")[0].to_owned();
    served.ask(
        &format!("PUT /b/k?partNumber=1&uploadId={id}"),
        &[],
        b"part",
    );
    let listed = served.ask(&format!("GET /b/k?uploadId={id}"), &[], b"");
    assert_eq!(crate::xml::texts(listed.text(), "Size"), ["4"]);
    let open = served.ask("GET /b?uploads", &[], b"");
    assert_eq!(crate::xml::texts(open.text(), "UploadId"), [id.as_str()]);
    assert_eq!(
        served
            .ask(&format!("DELETE /b/k?uploadId={id}"), &[], b"")
            .status,
        204
    );
    assert_eq!(
        served
            .ask(&format!("GET /b/k?uploadId={id}"), &[], b"")
            .status,
        404
    );
    assert!(served.names().is_empty(), "{:?}", served.names());
}

#[test]
fn an_upload_does_not_end_with_parts_that_are_not_there() {
    let served = served();
    let created = served.ask("POST /b/k?uploads", &[], b"");
    let id = crate::xml::texts(created.text(), "UploadId")[0].to_owned();
    let body = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>";
    let line = format!("POST /b/k?uploadId={id}");
    assert_eq!(served.ask(&line, &[], body).status, 400);
    assert_eq!(served.ask("GET /b/k", &[], b"").status, 404);
}

/// All names of a list that is asked for in pages of two.
fn listed(served: &Served, query: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let line = format!("GET /b?list-type=2&max-keys=2&{query}{token}");
        let page = served.ask(&line, &[], b"");
        assert_eq!(page.status, 200, "{}", page.text());
        for part in page.text().split('<') {
            let named = part.strip_prefix("Key>");
            let prefixes = part
                .strip_prefix("Prefix>")
                .filter(|name| name.ends_with('/'));
            names.extend(named.or(prefixes).map(str::to_owned));
        }
        let next = crate::xml::texts(page.text(), "NextContinuationToken");
        let Some(next) = next.first() else {
            return names;
        };
        token = format!("&continuation-token={next}");
    }
}

#[test]
fn keys_are_listed_in_the_order_of_their_bytes_page_by_page() {
    let served = served();
    for key in ["a/b/1", "a-b", "a/c", "a.b", "b", "a/b/2", "a/empty"] {
        served.ask(&format!("PUT /b/{key}"), &[], b"x");
    }
    let all = ["a-b", "a.b", "a/b/1", "a/b/2", "a/c", "a/empty", "b"];
    assert_eq!(listed(&served, ""), all);
    assert_eq!(listed(&served, "start-after=a/b/1"), all[3..]);
    assert_eq!(listed(&served, "prefix=a/c"), ["a/c"]);
    assert_eq!(listed(&served, "delimiter=/"), ["a-b", "a.b", "a/", "b"]);
}

#[test]
fn keys_below_a_prefix_are_grouped_by_the_delimiter() {
    let served = served();
    for key in ["p/a/1", "p/b/1", "p/c", "p/b/2", "q"] {
        served.ask(&format!("PUT /b/{key}"), &[], b"x");
    }
    let page = served.ask("GET /b?list-type=2&delimiter=/&prefix=p/", &[], b"");
    assert_eq!(crate::xml::texts(page.text(), "Key"), ["p/c"]);
    let groups: Vec<_> = page
        .text()
        .split("<CommonPrefixes><Prefix>")
        .skip(1)
        .collect();
    assert!(
        groups[0].starts_with("p/a/<") && groups[1].starts_with("p/b/<"),
        "{groups:?}"
    );
}

#[test]
fn a_key_that_xml_cannot_hold_is_listed_with_escapes() {
    let served = served();
    served.ask("PUT /b/a%26%0A%C3%A9", &[], b"x");
    let plain = served.ask("GET /b?list-type=2", &[], b"");
    assert_eq!(
        crate::xml::texts(plain.text(), "Key"),
        ["a&amp;&#xA;\u{e9}"]
    );
    let encoded = served.ask("GET /b?list-type=2&encoding-type=url", &[], b"");
    assert_eq!(crate::xml::texts(encoded.text(), "Key"), ["a%26%0A%C3%A9"]);
}

#[test]
fn what_was_recycled_is_written_over_and_nothing_of_it_is_left() {
    let served = served();
    let large = vec![b'x'; 17 << 20];
    served.ask("PUT /b/p/small", &["x-amz-meta-a: 1"], b"12345");
    served.ask("PUT /b/p/d/large", &["x-amz-meta-a: 1"], &large);
    let recycle = "POST /-/recycle?bucket=b&prefix=p";
    assert_eq!(served.ask(recycle, &[], b"").status, 204);
    assert_eq!(served.ask(recycle, &[], b"").status, 404);
    assert_eq!(served.ask("GET /b/p/small", &[], b"").status, 404);
    assert_eq!(spare_files(&served), 2);
    served.ask("PUT /b/small", &[], b"abcde");
    served.upload(&[(1, "abc")]);
    assert_eq!(spare_files(&served), 0);
    for (key, expected, said) in [("small", "abcde", None), ("dir/k", "abc", Some("1"))] {
        let found = served.ask(&format!("GET /b/{key}"), &[], b"");
        assert_eq!(found.text(), expected);
        assert_eq!(found.header("x-amz-meta-a"), said);
    }
}

/// Files that are kept to be written over.
fn spare_files(served: &Served) -> usize {
    let entries = fs::read_dir(served.root.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".spare.")).count()
}

#[test]
fn requests_wait_for_their_answers_at_the_same_time() {
    let served = served();
    let delay = Duration::from_millis(300);
    served.server.set_pace(Pace {
        delay,
        ..Pace::default()
    });
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| served.ask("HEAD /b/k", &[], b""));
        }
    });
    let took = began.elapsed();
    assert!(took >= delay && took < 6 * delay, "{took:?}");
}

#[test]
fn requests_and_bytes_are_counted_until_they_are_set_back() {
    let served = served();
    served.ask("PUT /b/k", &[], b"hello");
    served.ask("GET /b/k", &["Range: bytes=1-2"], b"");
    served.ask("HEAD /b/k", &[], b"");
    served.upload(&[(1, "abc")]);
    let counters = served.counters();
    let expected = Counters {
        get: 1,
        head: 1,
        put: 1,
        create: 1,
        part: 1,
        complete: 1,
        received: 8,
        sent: 2,
        connections: 6,
        most_in_flight: counters.most_in_flight,
        ..Counters::default()
    };
    assert_eq!(counters, expected);
    let said = served.ask("GET /-/counters", &[], b"");
    assert!(said.text().contains(r#""received":8"#), "{}", said.text());
    assert_eq!(served.ask("POST /-/reset", &[], b"").status, 204);
    assert_eq!(served.counters().received, 0);
}

#[test]
fn answers_are_as_slow_as_they_are_told_to_be() {
    let (served, body) = (served(), vec![7; 100_000]);
    let elapsed = |ask: &dyn Fn()| {
        let start = Instant::now();
        ask();
        start.elapsed()
    };
    served.ask("PUT /b/k", &[], &body);
    served.server.set_pace(Pace {
        delay: Duration::from_millis(30),
        bytes_per_s: 0,
    });
    assert!(elapsed(&|| drop(served.ask("HEAD /b/k", &[], b""))) >= Duration::from_millis(30));
    assert_eq!(
        served
            .ask("POST /-/pace?bytes_per_s=1000000", &[], b"")
            .status,
        204
    );
    assert!(elapsed(&|| drop(served.ask("GET /b/k", &[], b""))) >= Duration::from_millis(100));
    assert!(elapsed(&|| drop(served.ask("PUT /b/k", &[], &body))) >= Duration::from_millis(100));
}

#[test]
fn the_caller_is_told_an_account() {
    let served = served();
    let said = served.ask(
        "POST /",
        &[],
        b"Action=GetCallerIdentity&Version=2011-06-15",
    );
    assert_eq!(crate::xml::texts(said.text(), "Account"), ["000000000000"]);
}

#[test]
fn connections_break_when_the_server_is_dropped() {
    let Served {
        root: _root,
        server,
    } = served();
    let endpoint = server.endpoint();
    let stream = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).unwrap();
    let mut client = Client(BufReader::new(stream));
    client.ask("HEAD /b", &[], b"");
    drop(server);
    assert_eq!(client.0.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn faults_befall_reads_until_they_are_set_anew_and_are_counted() {
    let served = served();
    served.ask("PUT /b/k", &["Content-Length: 6"], b"abcdef");
    let set = |faults: &str| {
        let line = format!("POST /-/faults?{faults}");
        assert_eq!(served.ask(&line, &[], b"").status, 204);
    };
    let etag = |reply: &Reply| {
        let mut lines = reply.head.lines();
        lines
            .find(|line| line.starts_with("ETag:"))
            .unwrap()
            .to_owned()
    };
    let sound = served.ask("GET /b/k", &[], b"");
    for (name, status) in [
        ("forbidden", 403),
        ("expired", 400),
        ("missing", 404),
        ("internal", 500),
        ("slow_down", 503),
    ] {
        set(&format!("{name}=1000"));
        assert_eq!(served.ask("GET /b/k", &[], b"").status, status, "{name}");
    }
    set("renamed=1000");
    let renamed = served.ask("GET /b/k", &[], b"");
    assert_eq!(renamed.body, b"abcdef");
    assert_ne!(etag(&renamed), etag(&sound));
    set("wrong=1000&seed=7");
    let wrong = served.ask("GET /b/k", &[], b"");
    let differ = (0..6).filter(|&at| wrong.body[at] != b"abcdef"[at]);
    let differ: Vec<usize> = differ.collect();
    assert_eq!(differ.len(), 1);
    assert_ne!(etag(&wrong), etag(&sound));
    let other = (differ[0] + 1) % 6;
    let range = format!("Range: bytes={other}-{other}");
    let part = served.ask("GET /b/k", &[&range], b"");
    assert_eq!(part.body, [b"abcdef"[other]]);
    set("");
    let healed = served.ask("GET /b/k", &[], b"");
    assert_eq!(
        (healed.body.as_slice(), etag(&healed)),
        (&b"abcdef"[..], etag(&sound))
    );
    let told = served.ask("GET /-/faults", &[], b"");
    let told: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(told["wrong"]["k"][0], differ[0]);
    for name in ["forbidden", "expired", "missing", "internal", "slow_down"] {
        assert_eq!(told["counts"][name], 1, "{name}");
    }
    assert_eq!(told["counts"]["wrong"], 1);
}

#[test]
fn answers_that_hang_break_off_or_trickle_end_when_the_faults_do() {
    let served = served();
    served.ask("PUT /b/k", &["Content-Length: 6"], b"abcdef");
    for (name, arrive) in [
        ("close", 0),
        ("silence", 0),
        ("cut", 3),
        ("stall", 3),
        ("trickle", 6),
    ] {
        served.ask(&format!("POST /-/faults?{name}=1000"), &[], b"");
        let mut client = served.connect().0;
        let request = b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n";
        client.get_mut().write_all(request).unwrap();
        let waits = ["silence", "stall"].contains(&name);
        if waits {
            let patience = Some(Duration::from_millis(300));
            client.get_ref().set_read_timeout(patience).unwrap();
        } else if name == "trickle" {
            client
                .get_ref()
                .set_read_timeout(Some(Duration::from_secs(2)))
                .unwrap();
        }
        let mut all = Vec::new();
        let mut ended = client.read_to_end(&mut all);
        if waits {
            assert!(ended.is_err(), "{name} does not end");
            served.ask("POST /-/faults", &[], b"");
            client.get_ref().set_read_timeout(None).unwrap();
            ended = client.read_to_end(&mut all);
            ended.unwrap();
        }
        let text = String::from_utf8(all).unwrap();
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert_eq!(body, &"abcdef"[..arrive], "{name}");
    }
}

#[test]
fn writes_fail_before_in_the_midst_and_after_what_they_ask_for() {
    let served = served();
    for (name, status, is_there) in [
        ("slow_down", Some(503), false),
        ("internal", Some(500), false),
        ("expired", Some(400), false),
        ("cut", None, false),
        ("close", None, true),
        ("failed", Some(500), true),
    ] {
        for (kind, other, folder) in [("chunk", "manifest", "p/Data"), ("manifest", "chunk", "m")] {
            let key = format!("{folder}/{name}");
            served.ask(&format!("POST /-/faults?{kind}_{name}=1000"), &[], b"");
            let mut client = served.connect().0;
            let request = format!("PUT /b/{key} HTTP/1.1\r\nContent-Length: 6\r\n\r\nabcdef");
            client.get_mut().write_all(request.as_bytes()).unwrap();
            let mut line = String::new();
            // A connection that breaks off may be an error, too.
            let _ = client.read_line(&mut line);
            let answered = line.split(' ').nth(1).map(|code| code.parse().unwrap());
            assert_eq!(answered, status, "{kind}_{name}");
            let found = served.ask(&format!("GET /b/{key}"), &[], b"").status;
            assert_eq!(found == 200, is_there, "{kind}_{name}");
            served.ask(&format!("POST /-/faults?{other}_{name}=1000"), &[], b"");
            let length = "Content-Length: 6";
            let put = served.ask(&format!("PUT /b/{key}-other"), &[length], b"abcdef");
            assert_eq!(put.status, 200, "{kind}_{name}");
        }
    }
}
