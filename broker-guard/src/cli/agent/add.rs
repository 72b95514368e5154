//! `sealbus agent add`: a fresh identity and its credential, in one file for the agent.

use std::fs;

use sealbus_client::credentials::Credentials;
use sealbus_envelope::{
    identity::{Claims, Credential, KeyKind, Role},
    label::{Clearance, Compartments, Integrity, Level},
    name::Name,
    policy::{Tables, Team},
};
use serde_json::json;

use super::super::{
    busdir::{BusArg, BusDir, OfflineArg},
    failure::{Exit, Failure},
    init::{generate, parse_name, unissued, validity},
    output::{Output, STRONG, paint},
    registry::Registry,
    when::rfc3339,
};

/// The longest agent name. Shorter than other names: a token of every subject has it and a short id.
const MAX_AGENT_NAME: usize = 32;

const EXAMPLES: &str = "\
Examples:
  sealbus agent add alice --team analyst
  sealbus agent add scraper --team collector --clearance public --days 7
  sealbus agent add scraper --team collector --zone dmz
  sealbus agent add night-watch --team observer --role observer --config /etc/sealbus

Left out, clearance, compartments and integrity are the team's. The file holds the agent's
secret: hand it over, then delete it here.";

/// Make an agent's credentials file
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the agent: a letter, then lower-case letters, digits and `-`, 32 at most
    #[arg(value_parser = parse_agent_name)]
    name: Name,
    /// Team of the policy in force
    #[arg(long, value_parser = parse_name)]
    team: Name,
    /// Highest level it may read and write, if lower than the team's
    #[arg(long, value_name = "LEVEL")]
    clearance: Option<String>,
    /// Compartments it has, if fewer than the team's: `a,b`, or `-` for none
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    compartments: Option<Vec<String>>,
    /// Most trusted rank it may claim, if lower than the team's
    #[arg(long, value_name = "RANK")]
    integrity: Option<String>,
    /// Zone it may run in, if not everywhere its team may; may be given several times
    #[arg(long = "zone", value_name = "ZONE", value_parser = parse_name)]
    zones: Vec<Name>,
    /// How long the credential is good
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    /// What the credential is good for: `agent`, or `observer` (reads events only)
    #[arg(long, default_value = "agent", value_parser = ["agent", "observer"])]
    role: String,
    #[command(flatten)]
    bus: BusArg,
    #[command(flatten)]
    offline: OfflineArg,
}

fn parse_agent_name(text: &str) -> Result<Name, String> {
    match parse_name(text) {
        Ok(name) if text.len() <= MAX_AGENT_NAME => Ok(name),
        _ => Err("begin with a lower-case letter; then up to 31 lower-case letters, digits and `-`".into()),
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let grant = Grant {
        team: &args.team,
        clearance: args.clearance.as_deref(),
        compartments: args.compartments.as_deref(),
        integrity: args.integrity.as_deref(),
        zones: &args.zones,
        days: args.days,
        role: if args.role == "observer" { Role::Observer } else { Role::Agent },
    };
    let added = add(&dir, &args.offline, &args.name, &grant)?;
    let (claims, path) = (added.credential.claims(), added.path.display());
    let label = sealbus_envelope::label::Label::new(
        claims.clearance.level,
        claims.clearance.compartments,
        claims.integrity_ceiling,
    );
    let shown = added.tables.show(label);
    let object = json!({
        "name": claims.name,
        "token": claims.token(),
        "identity": claims.identity.to_nkey(KeyKind::User),
        "team": claims.team,
        "role": claims.role,
        "clearance": shown,
        "zones": claims.zones,
        "expires": rfc3339(claims.validity.not_after),
        "credentials": added.path,
    });
    let text = format!(
        "{}  team {}, may reach {shown}, until {}\n\n  {path}\n\nWhoever reads this file is {}: move it to \
         where the agent runs (mode 0600) and delete it here.\n  export SEALBUS_CREDS={path}",
        paint(STRONG, claims.token()),
        claims.team,
        rfc3339(claims.validity.not_after),
        claims.name,
    );
    output.show(&object, text)
}

/// What an agent is to be given.
#[derive(Debug)]
pub(crate) struct Grant<'a> {
    pub(crate) team: &'a Name,
    pub(crate) clearance: Option<&'a str>,
    pub(crate) compartments: Option<&'a [String]>,
    pub(crate) integrity: Option<&'a str>,
    pub(crate) zones: &'a [Name],
    pub(crate) days: u64,
    pub(crate) role: Role,
}

/// What was made.
#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) credential: Credential,
    pub(crate) path: std::path::PathBuf,
    pub(crate) tables: Tables,
}

/// Issues a credential and writes the agent's file and the registry, or neither.
pub(crate) fn add(
    dir: &BusDir,
    offline: &OfflineArg,
    name: &Name,
    grant: &Grant<'_>,
) -> Result<Added, Failure> {
    let (bundle, _) = dir.bundle()?;
    let tables = bundle.tables();
    let team = tables.team(grant.team.as_str()).ok_or_else(|| unknown_team(tables, grant.team))?;
    let (clearance, integrity_ceiling) = limits(tables, team, grant)?;
    check_zones(tables, team, grant.zones)?;
    let mut registry = Registry::lock(dir)?;
    if registry.get(name.as_str()).is_some() {
        let message = format!("the name `{name}` was given before");
        let remedy =
            "choose another name: a name stays with its first holder, so that the audit log is plain";
        return Err(Failure::told(Exit::Failure, "name_taken", message, remedy));
    }
    let issuer = dir.offline(offline).issuer()?;
    let identity = generate();
    let claims = Claims {
        bus: dir.config.bus(),
        identity: identity.public().clone(),
        name: name.clone(),
        team: team.name.clone(),
        role: grant.role,
        clearance,
        integrity_ceiling,
        zones: grant.zones.to_vec(),
        validity: validity(grant.days),
    };
    let credential =
        Credential::issue(&claims, &issuer).map_err(|refused| unissued("credential", refused))?;
    let path = dir.agents().join(format!("{name}.creds"));
    Credentials::new(dir.bus_block()?, credential.clone(), identity)?.write(&path)?;
    registry.insert(credential.clone());
    if let Err(failure) = registry.save() {
        // A credential that no list knows could not be revoked by name.
        let _ = fs::remove_file(&path);
        return Err(failure);
    }
    Ok(Added { credential, path, tables: tables.clone() })
}

fn unknown_team(tables: &Tables, team: &Name) -> Failure {
    let teams: Vec<_> = tables.teams.iter().map(|team| format!("`{}`", team.name)).collect();
    let message = format!("the policy in force has no team `{team}`");
    let remedy =
        format!("its teams: {}; after a change to policy.toml run `sealbus policy sign`", teams.join(", "));
    Failure::told(Exit::Denied, "unknown_team", message, remedy)
}

/// A credential for a zone that its team does not run in would be of no use anywhere.
fn check_zones(tables: &Tables, team: &Team, zones: &[Name]) -> Result<(), Failure> {
    if let Some(unknown) = zones.iter().find(|zone| tables.zone(zone.as_str()).is_none()) {
        let declared: Vec<_> = tables.zones.iter().map(|zone| format!("`{}`", zone.name)).collect();
        let message = format!("the policy in force has no zone `{unknown}`");
        let remedy = if declared.is_empty() {
            "declare it as `[zones.NAME]` in policy.toml and run `sealbus policy sign`".to_owned()
        } else {
            format!("its zones: {}", declared.join(", "))
        };
        return Err(Failure::told(Exit::Denied, "unknown_zone", message, remedy));
    }
    match &team.zone {
        Some(own) if !zones.is_empty() && !zones.contains(own) => {
            let message = format!("team `{}` runs in zone `{own}` only", team.name);
            let remedy = format!("leave `--zone` out, or write `--zone {own}`");
            Err(Failure::told(Exit::Denied, "wrong_zone", message, remedy))
        }
        _ => Ok(()),
    }
}

/// The team's limits, or what was asked for below them.
fn limits(tables: &Tables, team: &Team, grant: &Grant<'_>) -> Result<(Clearance, Integrity), Failure> {
    let number = |what: &str, names: &[Name], wanted: &str| {
        names.iter().position(|name| name.as_str() == wanted).and_then(|n| u8::try_from(n).ok()).ok_or_else(
            || {
                let declared: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                let message = format!("the policy in force has no {what} `{wanted}`");
                let remedy = format!("it declares, in order: {}", declared.join(", "));
                Failure::told(Exit::Denied, "unknown_label", message, remedy)
            },
        )
    };
    let mut clearance = team.clearance;
    let mut integrity = team.integrity_ceiling;
    if let Some(level) = grant.clearance {
        clearance.level = Level::new(number("level", &tables.levels, level)?).unwrap_or(Level::LOWEST);
    }
    if let Some(wanted) = grant.compartments {
        clearance.compartments = Compartments::EMPTY;
        for name in wanted.iter().filter(|name| !name.is_empty() && *name != "-") {
            let n = number("compartment", &tables.compartments, name)?;
            let one = Compartments::single(n).unwrap_or(Compartments::EMPTY);
            clearance.compartments = clearance.compartments.union(one);
        }
    }
    if let Some(rank) = grant.integrity {
        let n = number("integrity rank", &tables.integrity, rank)?;
        integrity = Integrity::new(n).unwrap_or(Integrity::LOWEST);
    }
    if clearance.meet(team.clearance) != clearance || integrity > team.integrity_ceiling {
        let label = |clearance: Clearance, rank| {
            tables.show(sealbus_envelope::label::Label::new(clearance.level, clearance.compartments, rank))
        };
        let message = format!(
            "{} is above what team `{}` has, {}",
            label(clearance, integrity),
            team.name,
            label(team.clearance, team.integrity_ceiling)
        );
        let remedy = "ask for less, choose another team, or raise the team in policy.toml and sign it";
        return Err(Failure::told(Exit::Denied, "above_team", message, remedy));
    }
    Ok((clearance, integrity))
}
