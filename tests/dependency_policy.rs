//! What this project promises about its dependencies, checked without a network: what
//! `cargo deny check licenses bans sources` says about `deny.toml` and the tree, and that
//! `docs/dependencies.md` explains every direct dependency and no other.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The parts of `deny.toml` that these tests enforce.
#[derive(Deserialize)]
struct Policy {
    graph: Graph,
    licenses: Licenses,
    sources: Sources,
    bans: Bans,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Bans {
    wildcards: String,
    multiple_versions: String,
    skip: Vec<Skip>,
}

/// A second version of a crate that is tolerated.
#[derive(Deserialize)]
struct Skip {
    /// `name@version`, the version as far as it matters.
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

impl Skip {
    fn covers(&self, package: &Package) -> bool {
        let Some((name, version)) = self.spec.split_once('@') else {
            return self.spec == package.name;
        };
        let rest = package.version.strip_prefix(version);
        package.name == name && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// The part of the root `Cargo.toml` that names versions for every member.
#[derive(Deserialize)]
struct Manifest {
    workspace: Workspace,
}

#[derive(Deserialize)]
struct Workspace {
    dependencies: BTreeMap<String, toml::Value>,
}

/// The parts of `cargo metadata` that these tests read.
#[derive(Default, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Clone, Default, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Clone, Default, Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

impl Metadata {
    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Names of the crates from outside that a member asks for itself.
    fn direct_dependencies(&self) -> BTreeSet<String> {
        self.members()
            .flat_map(|member| &member.dependencies)
            .filter(|dependency| dependency.path.is_none())
            .map(|dependency| dependency.name.clone())
            .collect()
    }
}

/// Whether an SPDX expression can be satisfied with allowed licences alone.
fn is_satisfied(expression: &str, allowed: &BTreeSet<String>) -> Result<bool, String> {
    // Cargo once had `/` for OR.
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut parser = LicenceParser {
        words: spaced.split_whitespace().peekable(),
        allowed,
    };
    let satisfied = parser.any()?;
    match parser.words.next() {
        None => Ok(satisfied),
        Some(word) => Err(format!("unexpected \"{word}\"")),
    }
}

struct LicenceParser<'a, W: Iterator<Item = &'a str>> {
    words: std::iter::Peekable<W>,
    allowed: &'a BTreeSet<String>,
}

impl<'a, W: Iterator<Item = &'a str>> LicenceParser<'a, W> {
    fn any(&mut self) -> Result<bool, String> {
        let mut satisfied = self.all()?;
        while self.words.next_if_eq(&"OR").is_some() {
            satisfied |= self.all()?;
        }
        Ok(satisfied)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut satisfied = self.one()?;
        while self.words.next_if_eq(&"AND").is_some() {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool, String> {
        match self.words.next() {
            Some("(") => {
                let satisfied = self.any()?;
                match self.words.next() {
                    Some(")") => Ok(satisfied),
                    other => Err(format!("expected \")\", found {other:?}")),
                }
            }
            None | Some(")" | "AND" | "OR" | "WITH") => Err("expected a licence".to_owned()),
            Some(licence) => {
                if self.words.next_if_eq(&"WITH").is_none() {
                    return Ok(self.allowed.contains(licence));
                }
                let exception = self.words.next().ok_or("expected an exception")?;
                Ok(self
                    .allowed
                    .contains(&format!("{licence} WITH {exception}")))
            }
        }
    }
}

fn licence_problems(packages: &[Package], allowed: &BTreeSet<String>) -> Vec<String> {
    let problem = |package: &Package| {
        let Some(expression) = &package.license else {
            return Some(format!("{} names no licence", package.name));
        };
        match is_satisfied(expression, allowed) {
            Ok(true) => None,
            Ok(false) => Some(format!(
                "{} is {expression}, which is not allowed",
                package.name
            )),
            Err(error) => Some(format!("{} is {expression}: {error}", package.name)),
        }
    };
    packages.iter().filter_map(problem).collect()
}

fn source_problems(metadata: &Metadata) -> Vec<String> {
    let problem = |package: &Package| match package.source.as_deref() {
        Some(CRATES_IO) => None,
        None if metadata.workspace_members.contains(&package.id) => None,
        None => Some(format!(
            "{} comes from a path outside of the workspace",
            package.name
        )),
        Some(other) => Some(format!("{} comes from {other}", package.name)),
    };
    metadata.packages.iter().filter_map(problem).collect()
}

/// Crates with several versions beyond the skipped ones, and skips that nothing needs any more.
fn duplicate_problems(packages: &[Package], skips: &[Skip]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        if !skips.iter().any(|skip| skip.covers(package)) {
            versions
                .entry(&package.name)
                .or_default()
                .insert(&package.version);
        }
    }
    let several = versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| format!("{name} is there in several versions: {versions:?}"));
    let is_needed = |skip: &Skip| {
        let covered = packages.iter().find(|package| skip.covers(package));
        covered.is_some_and(|covered| {
            packages
                .iter()
                .any(|package| package.name == covered.name && package.version != covered.version)
        })
    };
    let stale = skips
        .iter()
        .filter(|skip| !is_needed(skip))
        .map(|skip| format!("{} is skipped, but no duplicate", skip.spec));
    let unexplained = skips
        .iter()
        .filter(|skip| skip.reason.trim().is_empty())
        .map(|skip| format!("{} is skipped without a reason", skip.spec));
    several.chain(stale).chain(unexplained).collect()
}

fn wildcard_problems(metadata: &Metadata) -> Vec<String> {
    let of_member = |member: &Package| {
        let member_name = member.name.clone();
        let wild = |dependency: &&Dependency| {
            dependency.path.is_none() && dependency.req.split(',').any(|part| part.contains('*'))
        };
        let wild: Vec<_> = member.dependencies.iter().filter(wild).cloned().collect();
        wild.into_iter().map(move |dependency| {
            format!("{member_name} takes any version of {}", dependency.name)
        })
    };
    metadata.members().flat_map(of_member).collect()
}

/// Versions that the workspace names and that no member uses.
fn unused_problems(manifest: &Manifest, direct: &BTreeSet<String>) -> Vec<String> {
    let is_unused = |(name, dependency): &(&String, &toml::Value)| {
        dependency.get("path").is_none() && !direct.contains(name.as_str())
    };
    let named = manifest.workspace.dependencies.iter();
    named
        .filter(is_unused)
        .map(|(name, _)| format!("{name} is named, but nothing uses it"))
        .collect()
}

/// Names in backticks in the first cell of every table row.
fn explained_crates(document: &str) -> BTreeSet<String> {
    document
        .lines()
        .filter_map(|line| line.trim().strip_prefix('|')?.split('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

fn explanation_problems(direct: &BTreeSet<String>, explained: &BTreeSet<String>) -> Vec<String> {
    let missing = direct
        .difference(explained)
        .map(|name| format!("docs/dependencies.md has no row for {name}"));
    let stale = explained
        .difference(direct)
        .map(|name| format!("docs/dependencies.md has a row for {name}, which nothing uses"));
    missing.chain(stale).collect()
}

// --- the real tree ------------------------------------------------------------------------------

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn policy() -> Policy {
    toml::from_str(&read("deny.toml")).unwrap()
}

/// `cargo metadata` of one target; an error when a crate of that target is not downloaded.
fn metadata_of(target: &str) -> Result<Metadata, String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", target])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    if output.status.success() {
        Ok(parse_json(&output.stdout))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> T {
    serde_json::from_slice(bytes).unwrap()
}

fn host_target() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

/// The tree of this machine's target, and of every other one of `deny.toml` whose crates are
/// downloaded: `cargo fetch` brings those that a build did not need.
static TREE: LazyLock<Metadata> = LazyLock::new(|| {
    let host = host_target();
    let mut tree = metadata_of(&host).unwrap();
    for target in policy().graph.targets {
        match metadata_of(&target) {
            Ok(other) => tree.packages.extend(other.packages),
            Err(error) if target == host => panic!("{error}"),
            Err(error) => println!("{target} is not checked: {error}"),
        }
    }
    let mut seen = BTreeSet::new();
    tree.packages
        .retain(|package| seen.insert(package.id.clone()));
    tree
});

const NO_PROBLEMS: Vec<String> = Vec::new();

#[test]
fn every_licence_is_allowed() {
    assert_eq!(
        licence_problems(&TREE.packages, &policy().licenses.allow),
        NO_PROBLEMS
    );
}

#[test]
fn everything_comes_from_the_one_registry() {
    let sources = policy().sources;
    assert_eq!(
        (
            sources.unknown_registry.as_str(),
            sources.unknown_git.as_str()
        ),
        ("deny", "deny")
    );
    assert_eq!(source_problems(&TREE), NO_PROBLEMS);
}

#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let bans = policy().bans;
    assert_eq!(bans.multiple_versions, "deny");
    assert_eq!(duplicate_problems(&TREE.packages, &bans.skip), NO_PROBLEMS);
}

#[test]
fn no_dependency_takes_any_version() {
    assert_eq!(policy().bans.wildcards, "deny");
    assert_eq!(wildcard_problems(&TREE), NO_PROBLEMS);
}

#[test]
fn every_version_that_the_workspace_names_is_used() {
    let manifest = toml::from_str(&read("Cargo.toml")).unwrap();
    assert_eq!(
        unused_problems(&manifest, &TREE.direct_dependencies()),
        NO_PROBLEMS
    );
}

#[test]
fn every_direct_dependency_is_explained_and_no_other() {
    let explained = explained_crates(&read("docs/dependencies.md"));
    assert_eq!(
        explanation_problems(&TREE.direct_dependencies(), &explained),
        NO_PROBLEMS
    );
}

// --- the checks themselves ----------------------------------------------------------------------

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn package(name: &str, version: &str) -> Package {
    Package {
        id: format!("{name}@{version}"),
        name: name.to_owned(),
        version: version.to_owned(),
        license: Some("MIT".to_owned()),
        source: Some(CRATES_IO.to_owned()),
        dependencies: Vec::new(),
    }
}

#[test]
fn a_licence_expression_is_satisfied_by_allowed_licences_only() {
    let allowed = names(&["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]);
    for (expression, expected) in [
        ("MIT", Some(true)),
        ("GPL-3.0", Some(false)),
        ("GPL-3.0 OR MIT", Some(true)),
        ("GPL-3.0/MIT", Some(true)),
        ("GPL-3.0 AND MIT", Some(false)),
        ("MIT AND ISC", Some(true)),
        // AND binds tighter than OR.
        ("MIT OR ISC AND GPL-3.0", Some(true)),
        ("(MIT OR ISC) AND GPL-3.0", Some(false)),
        ("Apache-2.0", Some(false)),
        ("Apache-2.0 WITH LLVM-exception", Some(true)),
        ("Apache-2.0 WITH other-exception", Some(false)),
        ("", None),
        ("MIT OR", None),
        ("(MIT", None),
        ("MIT ISC", None),
        ("MIT WITH", None),
    ] {
        assert_eq!(
            is_satisfied(expression, &allowed).ok(),
            expected,
            "{expression:?}"
        );
    }
}

#[test]
fn a_licence_that_is_absent_or_not_allowed_is_a_problem() {
    let silent = Package {
        license: None,
        ..package("silent", "1.0.0")
    };
    let copyleft = Package {
        license: Some("GPL-3.0".to_owned()),
        ..package("copyleft", "1.0.0")
    };
    let packages = [package("good", "1.0.0"), silent, copyleft];
    assert_eq!(
        licence_problems(&packages, &names(&["MIT"])),
        [
            "silent names no licence",
            "copyleft is GPL-3.0, which is not allowed"
        ]
    );
}

#[test]
fn another_source_than_the_registry_is_a_problem() {
    let member = Package {
        source: None,
        ..package("member", "0.1.0")
    };
    let outside = Package {
        source: None,
        ..package("outside", "0.1.0")
    };
    let git = Package {
        source: Some("git+https://host/x".to_owned()),
        ..package("git", "0.1.0")
    };
    let metadata = Metadata {
        workspace_members: names(&["member@0.1.0"]),
        packages: vec![member, outside, git, package("good", "1.0.0")],
    };
    assert_eq!(
        source_problems(&metadata),
        [
            "outside comes from a path outside of the workspace",
            "git comes from git+https://host/x"
        ]
    );
}

#[test]
fn a_second_version_needs_a_skip_and_a_skip_needs_a_second_version() {
    let packages = [
        package("one", "1.0.0"),
        package("two", "0.2.9"),
        package("two", "0.20.0"),
    ];
    let skip = |spec: &str, reason: &str| Skip {
        spec: spec.to_owned(),
        reason: reason.to_owned(),
    };
    assert_eq!(
        duplicate_problems(&packages, &[]),
        [r#"two is there in several versions: {"0.2.9", "0.20.0"}"#]
    );
    assert_eq!(
        duplicate_problems(&packages, &[skip("two@0.2", "old user")]),
        NO_PROBLEMS
    );
    assert_eq!(
        duplicate_problems(
            &packages,
            &[
                skip("two@0.2", " "),
                skip("gone@1", "was there"),
                skip("one@1", "was twice")
            ]
        ),
        [
            "gone@1 is skipped, but no duplicate",
            "one@1 is skipped, but no duplicate",
            "two@0.2 is skipped without a reason"
        ]
    );
}

#[test]
fn a_wildcard_version_is_a_problem_unless_it_is_a_path() {
    let dependency = |name: &str, req: &str, path: Option<&str>| Dependency {
        name: name.to_owned(),
        req: req.to_owned(),
        path: path.map(str::to_owned),
    };
    let member = Package {
        dependencies: vec![
            dependency("any", "*", None),
            dependency("some", "1.*", None),
            dependency("room", "*", Some("/tree/room")),
            dependency("good", "^1.2", None),
        ],
        ..package("member", "0.1.0")
    };
    let metadata = Metadata {
        workspace_members: names(&["member@0.1.0"]),
        packages: vec![member],
    };
    assert_eq!(
        wildcard_problems(&metadata),
        [
            "member takes any version of any",
            "member takes any version of some"
        ]
    );
    assert_eq!(
        metadata.direct_dependencies(),
        names(&["any", "some", "good"])
    );
}

#[test]
fn a_version_that_is_named_for_nobody_is_a_problem() {
    let manifest = r#"
        [workspace.dependencies]
        room = { path = "room" }
        used = "1"
        unused = { version = "2", features = [] }
    "#;
    let manifest = toml::from_str(manifest).unwrap();
    assert_eq!(
        unused_problems(&manifest, &names(&["used"])),
        ["unused is named, but nothing uses it"]
    );
}

#[test]
fn a_missing_and_a_stale_explanation_are_problems() {
    let document = "Text with `words`.\n\n| crate | why |\n|---|---|\n| `a`, `b` | for `c` |\n";
    let explained = explained_crates(document);
    assert_eq!(explained, names(&["a", "b"]));
    assert_eq!(
        explanation_problems(&names(&["a", "d"]), &explained),
        [
            "docs/dependencies.md has no row for d",
            "docs/dependencies.md has a row for b, which nothing uses"
        ]
    );
}
