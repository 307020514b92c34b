//! The HTTP and HTTPS listeners as a client sees them: curl, with and without a place for cookies.

use std::collections::BTreeMap;

use alb_tests::netns::Namespace;
use anyhow::{Context as _, Result, ensure};

use crate::{
    files::{DOMAIN, Files},
    interrupt,
    plan::{Plan, Server},
    table,
};

/// Requests without a cookie, each a client of its own.
const STRANGERS: usize = 60;
/// Requests with one.
const REGULAR: usize = 12;

/// A client in its namespace.
#[derive(Debug)]
pub(crate) struct Web<'a> {
    pub(crate) client: &'a Namespace,
    pub(crate) plan: &'a Plan,
    pub(crate) files: &'a Files,
}

impl Web<'_> {
    /// Shows where requests go; returns the server that the cookie is for.
    pub(crate) fn show_persistence(&self) -> Result<&Server> {
        let url = self.http_url();
        println!("    {STRANGERS} x curl {url}");
        table::print(&self.plan.servers, &[], &self.ask(STRANGERS, &[])?);
        let jar = self.jar();
        let jar = jar.each_ref().map(String::as_str);
        println!("\n    {REGULAR} x curl --cookie-jar {} --cookie {} {url}", jar[1], jar[3]);
        let answers = self.ask(REGULAR, &jar)?;
        for (server, count) in &answers {
            println!("    {server} {count} times");
        }
        println!("    {}", self.header(&["--dump-header", "-", &url], "set-cookie")?);
        let (name, count) = answers.into_iter().next().context("no answer")?;
        ensure!(count == REGULAR, "a client with a cookie met several servers");
        self.plan.servers.iter().find(|server| server.name == name).context("no such server")
    }

    /// Shows what becomes of the cookie when its server is down.
    pub(crate) fn show_new_choice(&self, victim: &Server) -> Result<()> {
        let jar = self.jar();
        let answers = self.ask(REGULAR, &jar.each_ref().map(String::as_str))?;
        let (name, count) = answers.into_iter().next().context("no answer")?;
        ensure!(count == REGULAR && name != victim.name, "the cookie led to {name} {count} times");
        println!("    the client with the cookie for {}: {name}, {count} times", victim.name);
        Ok(())
    }

    /// Shows both versions of HTTP over TLS, and what the server is told.
    pub(crate) fn show_tls(&self) -> Result<()> {
        let trust = self.trust();
        for version in ["--http1.1", "--http2"] {
            let url = self.https_url("/seen");
            println!("\n    curl {version} {url}");
            let shown = "%{stderr}HTTP/%{http_version}, status %{http_code}";
            let mut words = vec![version, "--write-out", shown];
            words.extend(trust.iter().map(String::as_str));
            let output = self.curl(&[words.as_slice(), &[url.as_str()]].concat())?;
            let (name, seen) = output.0.split_once('\n').context("no answer")?;
            println!("    {}; {name} saw:", output.1.trim());
            for line in seen.lines() {
                println!("        {line}");
            }
        }
        Ok(())
    }

    /// What to type to do the same again.
    pub(crate) fn hints(&self, inside: &str) {
        let (http, https) = (self.http_url(), self.https_url("/seen"));
        println!("    {inside} curl {http}    again and again: 3 : 2 : 1");
        println!("    {inside} curl {} {http}    the same server", self.jar().join(" "));
        println!("    {inside} curl {} {https}", self.trust().join(" "));
    }

    fn http_url(&self) -> String {
        match self.plan.http.port() {
            80 => format!("http://{}/", self.plan.http.ip()),
            port => format!("http://{}:{port}/", self.plan.http.ip()),
        }
    }

    fn https_url(&self, path: &str) -> String {
        match self.plan.https.port() {
            443 => format!("https://{DOMAIN}{path}"),
            port => format!("https://{DOMAIN}:{port}{path}"),
        }
    }

    fn jar(&self) -> [String; 4] {
        let jar = self.files.cookies().display().to_string();
        ["--cookie-jar".to_owned(), jar.clone(), "--cookie".to_owned(), jar]
    }

    fn trust(&self) -> [String; 4] {
        let to = self.plan.https;
        [
            "--cacert".to_owned(),
            self.files.certificate().display().to_string(),
            "--resolve".to_owned(),
            format!("{DOMAIN}:{}:{}", to.port(), to.ip()),
        ]
    }

    /// So many requests, each by a curl of its own; who answered how often.
    fn ask(&self, count: usize, words: &[&str]) -> Result<BTreeMap<String, usize>> {
        let url = self.http_url();
        let mut answers = BTreeMap::new();
        for _ in 0..count {
            let name = self.curl(&[words, &[url.as_str()]].concat())?.0;
            *answers.entry(name.trim().to_owned()).or_default() += 1;
            interrupt::check()?;
        }
        Ok(answers)
    }

    fn header(&self, words: &[&str], name: &str) -> Result<String> {
        let (answer, _) = self.curl(words)?;
        let is_it = |line: &&str| line.to_ascii_lowercase().starts_with(name);
        let line = answer.lines().find(is_it);
        Ok(line.with_context(|| format!("no {name} in {answer}"))?.to_owned())
    }

    /// What curl writes to standard output and error.
    fn curl(&self, words: &[&str]) -> Result<(String, String)> {
        let mut command = self.client.command("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "5"]).args(words);
        let output = command.output().context("curl")?;
        let [out, err] = [output.stdout, output.stderr].map(|bytes| {
            // Names and header fields of our own making.
            String::from_utf8_lossy(&bytes).into_owned()
        });
        ensure!(output.status.success(), "curl {}: {}", words.join(" "), err.trim());
        Ok((out, err))
    }
}
