//! The broker as a program of its own: started, killed, ended.

#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

pub struct Program {
    child: Child,
    pub service_url: String,
    pub admin_url: String,
}

impl Program {
    pub fn start(dir: &Path) -> Program {
        Program::start_with(dir, &[])
    }

    pub fn start_with(dir: &Path, arguments: &[&str]) -> Program {
        Program::try_start(dir, arguments, Stdio::inherit()).unwrap_or_else(|why| panic!("it did not start: {why}"))
    }

    /// Or what it says when it refuses to start, if its errors are piped.
    pub fn try_start(dir: &Path, arguments: &[&str], errors: Stdio) -> Result<Program, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_everpulse-broker"))
            .args(["--port", "0", "--admin-port", "0", "--data"])
            .arg(dir)
            .args(arguments)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        if line.is_empty() {
            let output = child.wait_with_output().expect("ended");
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let ready: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(ready["pid"], child.id());
        let url = |name: &str| ready[name].as_str().expect("a URL").to_owned();
        Ok(Program { service_url: url("service_url"), admin_url: url("admin_url"), child })
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    pub fn terminate(mut self) -> ExitStatus {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
        self.child.wait().expect("ended")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A test that fails leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
