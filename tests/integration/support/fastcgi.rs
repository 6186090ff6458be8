//! A FastCGI application that does exactly what a test says, record by record.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// `FCGI_END_REQUEST`, `FCGI_STDOUT`, `FCGI_STDERR` (FastCGI 1.0, 8).
pub const END_REQUEST: u8 = 3;
pub const STDOUT: u8 = 6;
pub const STDERR: u8 = 7;

/// A request as it came: the parameters undecoded, the content of its records put together.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub params: Vec<u8>,
    pub stdin: Vec<u8>,
    /// Content lengths of the STDIN records, in order.
    pub stdin_records: Vec<usize>,
    /// How many requests came before it.
    pub number: usize,
}

impl Asked {
    /// Does this text stand in names or values?
    pub fn names(&self, text: &str) -> bool {
        memchr::memmem::find(&self.params, text.as_bytes()).is_some()
    }
}

/// An application on a Unix socket; its threads end with the process.
pub struct Application {
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Application {
    /// `answer` writes the records of each reply; the connection serves on until its peer closes
    /// or `answer` returns false.
    pub fn start(answer: impl Fn(&Asked, &mut UnixStream) -> bool + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("pub")).expect("a directory");
        let listener = UnixListener::bind(directory.path().join("php.sock")).expect("a socket");
        let application = Self { directory, asked: Arc::default() };
        let (all, answer) = (Arc::clone(&application.asked), Arc::new(answer));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                std::thread::spawn(move || {
                    while let Some(mut request) = read_request(&mut stream) {
                        {
                            let mut all = all.lock().expect("not poisoned");
                            request.number = all.len();
                            all.push(request.clone());
                        }
                        if !answer(&request, &mut stream) {
                            return;
                        }
                    }
                });
            }
        });
        application
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("pub")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("php.sock")
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

/// One record of request 1.
pub fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    record_of(1, kind, content, 0)
}

/// One record.
pub fn record_of(id: u16, kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("at most 65,535 bytes").to_be_bytes();
    let id = id.to_be_bytes();
    let mut record = vec![1, kind, id[0], id[1], length[0], length[1], padding, 0];
    record.extend_from_slice(content);
    record.resize(record.len() + usize::from(padding), b'#');
    record
}

/// `END_REQUEST` with this protocol status: 0 complete, 1 `CANT_MPX`, 2 `OVERLOADED`, 3 `UNKNOWN_ROLE`.
pub fn end(protocol_status: u8) -> Vec<u8> {
    record(END_REQUEST, &[0, 0, 0, 0, protocol_status, 0, 0, 0])
}

/// A whole reply: head and content in one record.
pub fn reply(text: &str) -> Vec<u8> {
    [record(STDOUT, text.as_bytes()), record(STDOUT, b""), end(0)].concat()
}

/// Writes; what the peer no longer takes is lost.
pub fn write(stream: &mut UnixStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
    let _ = stream.flush();
}

fn read_request(stream: &mut UnixStream) -> Option<Asked> {
    let mut asked = Asked::default();
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head).ok()?;
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let mut content = vec![0; length + usize::from(head[6])];
        stream.read_exact(&mut content).ok()?;
        content.truncate(length);
        match head[1] {
            4 => asked.params.extend(content),
            5 => {
                asked.stdin_records.push(length);
                if length == 0 {
                    return Some(asked);
                }
                asked.stdin.extend(content);
            }
            _ => {}
        }
    }
}
