//! Debian's `docker-registry` (the distribution project's server), so that what our programs do with ours
//! is done with another's too.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::api::Api;
use crate::command::tool;
use crate::http::Http;
use crate::place::Place;

/// A server under way, ended with its owner.
pub struct Distribution {
    process: Child,
    address: SocketAddr,
}

impl Distribution {
    /// Starts a server on a free port with its data in the directory `name` of `place`; it deletes what it
    /// is told to.
    #[track_caller]
    pub fn start(place: &Place, name: &str) -> Self {
        Self::start_with(place, name, "", "")
    }

    /// [`Distribution::start`] that lets only the user `me` with the password `secret` in.
    #[track_caller]
    pub fn start_guarded(place: &Place, name: &str) -> Self {
        let users = place.join(format!("{name}.htpasswd"));
        // As htpasswd -B writes it.
        let line = "me:$2y$05$vbIqd3rMY8q3JkFtmrVf..4aw4WjubKbNth2tBaddX6zqZTs6yGhW\n";
        fs::write(&users, line).expect("write");
        let auth = format!(
            "auth: {{htpasswd: {{realm: here, path: {}}}}}\n",
            users.display()
        );
        Self::start_with(place, name, "", &auth)
    }

    /// [`Distribution::start`] with more settings: behind the address in the section `http`, and sections of
    /// their own. What was asked for is logged in `name.log`.
    #[track_caller]
    pub fn start_with(place: &Place, name: &str, http: &str, sections: &str) -> Self {
        let data = place.dir(name);
        // Another process may take the port between the two; then the server ends and another is tried.
        for _ in 0..5 {
            let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr());
            let address = free.expect("a free port");
            let file = place.join(format!("{name}.yml"));
            let settings = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage:\n  delete: {{enabled: true}}\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: '{address}'{http}}}\n{sections}",
                data.display()
            );
            fs::write(&file, settings).expect("write");
            let mut command = Command::new(tool("docker-registry"));
            command.arg("serve").arg(&file).stdin(Stdio::null());
            let log = fs::File::create(place.join(format!("{name}.log"))).expect("a log");
            let process = command.stdout(log).stderr(Stdio::null()).spawn();
            let mut server = Self {
                process: process.expect("start docker-registry"),
                address,
            };
            if server.listens() {
                return server;
            }
        }
        panic!("docker-registry does not start");
    }

    fn listens(&mut self) -> bool {
        let limit = Instant::now() + Duration::from_secs(30);
        while Instant::now() < limit {
            if TcpStream::connect(self.address).is_ok() {
                return true;
            }
            if self.process.try_wait().expect("wait").is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The protocol, spoken to it by hand.
    pub fn api(&self) -> Api {
        Api(Http::new(self.address))
    }

    /// The reference of an image on it.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        self.api().reference(repository, tag)
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
