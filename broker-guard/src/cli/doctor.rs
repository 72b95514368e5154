//! `sealbus doctor`: is the bus set up as it must be, and does it refuse what it must?

mod bypass;
mod files;
mod live;

use std::path::PathBuf;

use serde_json::json;

use super::{
    busdir::{BusArg, BusDir},
    failure::{Exit, Failure},
    output::{BAD, FAINT, GOOD, Output, STRONG, paint},
    runtime,
};

const EXAMPLES: &str = "\
Examples:
  sealbus doctor
  sealbus doctor --config /etc/sealbus --creds alice.creds
  sealbus doctor --offline-only --json | jq 'select(.result == \"wrong\")'

Looks at files, keys and signatures, then at the running nats-server and guard, then tries to
get round the guard with a credential that may do little (agents/oncall.creds, or --creds):
publish on delivery subjects, read others' boxes, administer streams. Exit code 1 if something
is wrong, 4 if a way round the guard worked.";

/// Check the set-up and try to get round the guard
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Credentials to try the ways round the guard with
    #[arg(long, env = "SEALBUS_CREDS", value_name = "FILE")]
    creds: Option<PathBuf>,
    /// Look at files only, not at servers
    #[arg(long)]
    offline_only: bool,
    #[command(flatten)]
    bus: BusArg,
}

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Good,
    /// Works, and should be looked at.
    Mind,
    /// Wrong.
    Wrong,
    /// A way round the guard worked.
    Open,
}

/// What was looked at, how it came out, and what to do.
#[derive(Debug)]
struct Line {
    verdict: Verdict,
    check: String,
    detail: String,
    remedy: String,
}

/// Shows results as they come and remembers the worst.
struct Chart<'a> {
    output: &'a Output,
    worst: Exit,
    wrong: u32,
}

impl Chart<'_> {
    fn heading(&self, text: &str) -> Result<(), Failure> {
        if self.output.is_json() { Ok(()) } else { self.output.text(paint(STRONG, text)) }
    }

    fn good(&mut self, check: impl Into<String>, detail: impl Into<String>) -> Result<(), Failure> {
        self.put(Line {
            verdict: Verdict::Good,
            check: check.into(),
            detail: detail.into(),
            remedy: String::new(),
        })
    }

    fn mind(&mut self, check: &str, detail: impl Into<String>, remedy: &str) -> Result<(), Failure> {
        self.put(Line {
            verdict: Verdict::Mind,
            check: check.into(),
            detail: detail.into(),
            remedy: remedy.into(),
        })
    }

    fn wrong(
        &mut self,
        check: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Result<(), Failure> {
        let (check, detail, remedy) = (check.into(), detail.into(), remedy.into());
        self.put(Line { verdict: Verdict::Wrong, check, detail, remedy })
    }

    fn open(&mut self, check: &str, detail: &str, remedy: &str) -> Result<(), Failure> {
        self.put(Line {
            verdict: Verdict::Open,
            check: check.into(),
            detail: detail.into(),
            remedy: remedy.into(),
        })
    }

    /// A check that failed in the words of its failure.
    fn failed(&mut self, check: &str, failure: &Failure) -> Result<(), Failure> {
        let Some(report) = failure.report() else { return Ok(()) };
        let cause = report.source().map(|source| format!(": {source}")).unwrap_or_default();
        let remedy = report.help().map(|help| help.to_string()).unwrap_or_default();
        self.wrong(check, format!("{report}{cause}"), remedy)
    }

    fn put(&mut self, line: Line) -> Result<(), Failure> {
        let Line { verdict, check, detail, remedy } = &line;
        match verdict {
            Verdict::Good | Verdict::Mind => {}
            Verdict::Wrong => {
                self.wrong += 1;
                if self.worst == Exit::Success {
                    self.worst = Exit::Failure;
                }
            }
            Verdict::Open => {
                self.wrong += 1;
                self.worst = Exit::Unverified;
            }
        }
        if self.output.is_json() {
            let result = match verdict {
                Verdict::Good => "good",
                Verdict::Mind => "mind",
                Verdict::Wrong => "wrong",
                Verdict::Open => "open",
            };
            let mut object = json!({ "check": check, "result": result, "detail": detail });
            if let Some(map) = object.as_object_mut()
                && !remedy.is_empty()
            {
                map.insert("remedy".to_owned(), remedy.as_str().into());
            }
            return self.output.object(&object);
        }
        let mark = match verdict {
            Verdict::Good => paint(GOOD, "✓").to_string(),
            Verdict::Mind => paint(FAINT, "!").to_string(),
            Verdict::Wrong | Verdict::Open => paint(BAD, "✗").to_string(),
        };
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        self.output.text(format_args!("  {mark} {check}{detail}"))?;
        if remedy.is_empty() { Ok(()) } else { self.output.text(format_args!("      → {remedy}")) }
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let mut chart = Chart { output, worst: Exit::Success, wrong: 0 };
    chart.heading("files")?;
    // Without a configuration there is nothing else to look at; its own rendering shows the place.
    let dir = BusDir::open(&args.bus.config)?;
    chart.good("configuration", dir.config.path.display().to_string())?;
    let facts = files::check(&dir, &mut chart)?;
    if !args.offline_only {
        runtime()?.block_on(async {
            chart.heading("servers and guard")?;
            let reachable = live::check(&dir, &facts, &mut chart).await?;
            chart.heading("ways round the guard")?;
            if reachable {
                bypass::check(&dir, args.creds.as_deref(), &mut chart).await
            } else {
                chart.mind("not tried", "no server and guard answer", "start them and run this again")
            }
        })?;
    }
    match chart.worst {
        Exit::Success => {
            if output.is_json() {
                Ok(())
            } else {
                output.text(paint(GOOD, "all is well"))
            }
        }
        exit => {
            if !output.is_json() {
                let wrong = chart.wrong;
                output.text(paint(
                    BAD,
                    format_args!("{wrong} thing{} wrong", if wrong == 1 { "" } else { "s" }),
                ))?;
            }
            Err(Failure::shown(exit))
        }
    }
}
