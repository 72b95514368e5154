//! The real input: a Rust project's dependencies, as `cargo metadata` tells them.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    process::Stdio,
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, TargetKind};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// Why a project cannot be reviewed.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// There is no manifest here or above.
    #[error("there is no Cargo.toml in `{}` or above it", .0.display())]
    None(PathBuf),
    /// cargo cannot be run.
    #[error("cannot run `cargo`: {0}")]
    NoCargo(std::io::Error),
    /// cargo refuses.
    #[error("`cargo metadata` failed for `{}`:\n{said}", manifest.display())]
    Cargo {
        /// The manifest.
        manifest: PathBuf,
        /// The end of what it said.
        said: String,
    },
    /// What cargo said is not understood.
    #[error("cannot read the output of `cargo metadata`: {0}")]
    Output(#[from] cargo_metadata::Error),
    /// It has no packages.
    #[error("`{}` has no packages to review", .0.display())]
    Empty(PathBuf),
}

impl ProjectError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::None(_) => "go into a Rust project, or name one with `--project DIR`",
            Self::NoCargo(_) => "install Rust from https://rustup.rs",
            Self::Cargo { .. } => {
                "make `cargo metadata --locked` work there; `cargo generate-lockfile` makes a missing Cargo.lock"
            }
            Self::Output(_) => "see whether cargo is recent enough",
            Self::Empty(_) => "name another project with `--project DIR`",
        }
    }
}

/// Where a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    Registry,
    Git,
    Path,
}

/// One package that the project depends on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: Option<String>,
    /// Whether it ships a licence text of its own instead.
    pub(super) license_file: bool,
    pub(super) repository: Option<String>,
    pub(super) source: Source,
    pub(super) build_script: bool,
    pub(super) proc_macro: bool,
    /// The native library it links, if it says so.
    pub(super) links: Option<String>,
    /// How many packages of the project depend on it.
    pub(super) dependents: u64,
    /// Whether the project's own packages name it.
    pub(super) direct: bool,
    /// Whether it was yanked. Neither lock file nor metadata tells, and nothing else is asked.
    pub(super) yanked: Option<bool>,
}

impl Dependency {
    pub(super) fn shown(&self) -> String {
        format!("{} {}", self.name, self.version)
    }
}

/// A project to review.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub root: PathBuf,
    /// Whether its own packages are reviewed, because it has no others.
    pub own: bool,
    /// Whether only what this platform needs could be read.
    pub partial: bool,
    pub(super) direct: Vec<Dependency>,
    pub(super) indirect: Vec<Dependency>,
}

impl Project {
    /// How many packages there are to review, direct ones and all.
    #[must_use]
    pub const fn packages(&self) -> (usize, usize) {
        (self.direct.len(), self.direct.len() + self.indirect.len())
    }

    /// Reads the project at `start` or in a directory above it.
    ///
    /// # Errors
    /// [`ProjectError`].
    pub async fn read(start: &Path) -> Result<Self, ProjectError> {
        let start = start.canonicalize().unwrap_or_else(|_| start.to_owned());
        let manifest = start
            .ancestors()
            .map(|dir| dir.join("Cargo.toml"))
            .find(|path| path.is_file())
            .ok_or(ProjectError::None(start))?;
        let host = host().await?;
        // Nothing is written to the project: `--locked` always. Offline only what this platform needs may
        // have been downloaded.
        let platform = ["--locked", "--offline", "--filter-platform", host.as_str()];
        let tries = [&["--locked"][..], &["--locked", "--offline"], &platform];
        let mut said = String::new();
        for (n, arguments) in tries.iter().enumerate() {
            match metadata(&manifest, arguments).await? {
                Ok(metadata) => return Self::from_metadata(&metadata, n == 2),
                // The first tells best what is wrong.
                Err(words) if said.is_empty() => said = words,
                Err(_) => {}
            }
        }
        Err(ProjectError::Cargo { manifest, said })
    }

    fn from_metadata(metadata: &Metadata, partial: bool) -> Result<Self, ProjectError> {
        let members: HashSet<_> = metadata.workspace_members.iter().collect();
        let mut dependents: BTreeMap<_, u64> = BTreeMap::new();
        let mut direct = HashSet::new();
        for node in metadata.resolve.iter().flat_map(|resolve| &resolve.nodes) {
            for dependency in &node.deps {
                *dependents.entry(&dependency.pkg).or_default() += 1;
                // What only tests need is reviewed too: it runs on developers' machines.
                if members.contains(&node.id)
                    && dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Unknown)
                {
                    direct.insert(&dependency.pkg);
                }
            }
        }
        let own = metadata.packages.iter().all(|package| members.contains(&package.id));
        let mut packages: Vec<_> =
            metadata.packages.iter().filter(|package| own || !members.contains(&package.id)).collect();
        packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        let of = |package: &Package| Dependency {
            name: package.name.to_string(),
            version: package.version.to_string(),
            license: package.license.clone().filter(|text| !text.trim().is_empty()),
            license_file: package.license_file.is_some(),
            repository: package.repository.clone(),
            source: match &package.source {
                None => Source::Path,
                Some(source) if source.repr.starts_with("git+") => Source::Git,
                Some(_) => Source::Registry,
            },
            build_script: has_target(package, &TargetKind::CustomBuild),
            proc_macro: has_target(package, &TargetKind::ProcMacro),
            links: package.links.clone(),
            dependents: dependents.get(&package.id).copied().unwrap_or(0),
            direct: direct.contains(&package.id),
            yanked: None,
        };
        let root = metadata.workspace_root.clone().into_std_path_buf();
        let (direct, indirect): (Vec<_>, Vec<_>) =
            packages.into_iter().map(of).partition(|dependency| dependency.direct);
        if direct.is_empty() && indirect.is_empty() {
            return Err(ProjectError::Empty(root));
        }
        let name =
            root.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned());
        Ok(Self { name, root, own, partial, direct, indirect })
    }
}

fn has_target(package: &Package, kind: &TargetKind) -> bool {
    package.targets.iter().any(|target| target.kind.contains(kind))
}

async fn metadata(manifest: &Path, arguments: &[&str]) -> Result<Result<Metadata, String>, ProjectError> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .args(arguments)
        .output()
        .await
        .map_err(ProjectError::NoCargo)?;
    if output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        let json = text.lines().find(|line| line.starts_with('{')).unwrap_or_default();
        return Ok(Ok(MetadataCommand::parse(json)?));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default();
    Ok(Err(end.join("\n")))
}

/// The platform that cargo builds for, as `cargo -vV` names it.
async fn host() -> Result<String, ProjectError> {
    let output = cargo().arg("-vV").output().await.map_err(ProjectError::NoCargo)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().to_owned())
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}
