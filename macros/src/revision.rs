//! The git revision that an author's crate is compiled at, found without any configuration.
//!
//! A macro runs in the author's crate, so it can look for `.git` from that crate's folder upwards. Only what names the
//! revision is read: `HEAD`, and the branch that it names. Whether the tree has changes that were not committed is not
//! asked, as the answer costs a look at every file.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use proc_macro2::TokenStream;
use quote::quote;

/// So many of a revision's digits are kept: enough for any repository, and no more than people read.
const DIGITS: usize = 12;

/// A revision, and the files that change when there is another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Revision {
    id: Option<String>,
    named_by: Vec<PathBuf>,
}

/// An expression of type `Option<&'static str>`: what the crate is built from.
///
/// `EVERPULSE_BUILD`, if it is set while the crate is compiled, and else the revision. In a build without debug assertions
/// the crate depends on the files that name the revision, so it is compiled again when that changes. Builds with debug
/// assertions say so behind a `+`: they are those of every day, often of code that is not committed yet, and are not
/// compiled again for each commit.
pub fn build() -> TokenStream {
    static FOUND: OnceLock<Revision> = OnceLock::new();
    let Revision { id, named_by } = FOUND.get_or_init(|| {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        folder.map(|folder| find(&folder)).unwrap_or_default()
    });
    let Some(id) = id else { return quote!(::core::option_env!("EVERPULSE_BUILD")) };
    let debug = format!("{id}+debug");
    let named_by = named_by.iter().filter_map(|path| path.to_str());
    quote! {{
        #(#[cfg(not(debug_assertions))] const _: &[u8] = ::core::include_bytes!(#named_by);)*
        match ::core::option_env!("EVERPULSE_BUILD") {
            ::core::option::Option::Some(build) => ::core::option::Option::Some(build),
            ::core::option::Option::None if ::core::cfg!(debug_assertions) => ::core::option::Option::Some(#debug),
            ::core::option::Option::None => ::core::option::Option::Some(#id),
        }
    }}
}

/// The revision of the repository that a folder is in.
fn find(folder: &Path) -> Revision {
    // A package from a registry says what it was made from, and may lie inside a repository of something else.
    if let Ok(info) = std::fs::read_to_string(folder.join(".cargo_vcs_info.json")) {
        let id = info.split_once("\"sha1\"").and_then(|(_, rest)| rest.split('"').nth(1));
        return Revision { id: id.and_then(hex), named_by: Vec::new() };
    }
    let Some(git) = folder.ancestors().map(|folder| folder.join(".git")).find(|git| git.exists()) else {
        return Revision::default();
    };
    // In a worktree and in a submodule it is a file that says where the folder is.
    let git = match std::fs::read_to_string(&git) {
        Ok(link) => match link.strip_prefix("gitdir:") {
            Some(target) => git.parent().unwrap_or(folder).join(target.trim()),
            None => return Revision::default(),
        },
        Err(_) => git,
    };
    let common = match std::fs::read_to_string(git.join("commondir")) {
        Ok(common) => git.join(common.trim()),
        Err(_) => git.clone(),
    };
    let Ok(head) = std::fs::read_to_string(git.join("HEAD")) else { return Revision::default() };
    let mut named_by = vec![git.join("HEAD")];
    // It gets a line for each commit, checkout and reset, also where branches are packed into one file.
    named_by.push(git.join("logs/HEAD"));
    let id = match head.trim().strip_prefix("ref:") {
        None => hex(head.trim()),
        Some(branch) => {
            let branch = branch.trim();
            named_by.push(common.join(branch));
            std::fs::read_to_string(common.join(branch)).ok().and_then(|id| hex(id.trim())).or_else(|| {
                let packed = std::fs::read_to_string(common.join("packed-refs")).ok()?;
                let line = packed.lines().find_map(|line| line.strip_suffix(branch)?.strip_suffix(' '));
                line.and_then(hex)
            })
        }
    };
    named_by.retain(|path| path.exists());
    Revision { id, named_by }
}

/// The first digits of a revision, if it is one.
fn hex(text: &str) -> Option<String> {
    (text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text[..DIGITS].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0123456789abcdef0123456789abcdef01234567";
    const NEW: &str = "fedcba9876543210fedcba9876543210fedcba98";

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
    }

    fn found(files: &[(&str, &str)], folder: &str) -> (Option<String>, Vec<String>) {
        let root = tempfile::tempdir().expect("a folder");
        write(root.path(), files);
        std::fs::create_dir_all(root.path().join(folder)).expect("a folder");
        let Revision { id, named_by } = find(&root.path().join(folder));
        let from_root = |path: &PathBuf| {
            let whole = path.canonicalize().expect("it exists");
            let root = root.path().canonicalize().expect("it exists");
            whole.strip_prefix(root).expect("it is inside").to_string_lossy().into_owned()
        };
        (id, named_by.iter().map(from_root).collect())
    }

    #[test]
    fn a_branch_is_followed_to_its_revision_from_any_folder() {
        let files = [
            (".git/HEAD", "ref: refs/heads/main\n"),
            (".git/refs/heads/main", &format!("{NEW}\n")),
            (".git/logs/HEAD", "a line for each move\n"),
            (".git/packed-refs", &format!("# pack-refs\n{OLD} refs/heads/main\n")),
        ];
        let (id, named_by) = found(&files, "crates/orders");
        assert_eq!(id.as_deref(), Some("fedcba987654"));
        assert_eq!(named_by, [".git/HEAD", ".git/logs/HEAD", ".git/refs/heads/main"]);
    }

    #[test]
    fn packed_branches_and_bare_revisions_are_read() {
        let packed = format!("# pack-refs\n{NEW} refs/heads/other/main\n{OLD} refs/heads/main\n^{NEW}\n");
        let files = [(".git/HEAD", "ref: refs/heads/main\n"), (".git/packed-refs", &packed)];
        assert_eq!(found(&files, ".").0.as_deref(), Some("0123456789ab"));
        assert_eq!(found(&[(".git/HEAD", OLD)], ".").0.as_deref(), Some("0123456789ab"));
    }

    #[test]
    fn a_worktree_has_its_own_head_and_shares_the_branches() {
        let files = [
            ("tree/.git", "gitdir: ../main/.git/worktrees/tree\n"),
            ("main/.git/HEAD", "ref: refs/heads/main\n"),
            ("main/.git/refs/heads/main", OLD),
            ("main/.git/refs/heads/tree", NEW),
            ("main/.git/worktrees/tree/HEAD", "ref: refs/heads/tree\n"),
            ("main/.git/worktrees/tree/commondir", "../..\n"),
        ];
        let (id, named_by) = found(&files, "tree/src");
        assert_eq!(id.as_deref(), Some("fedcba987654"));
        assert_eq!(named_by, ["main/.git/worktrees/tree/HEAD", "main/.git/refs/heads/tree"]);
    }

    #[test]
    fn a_published_package_says_itself_what_it_was_made_from() {
        let info = format!("{{\n  \"git\": {{\n    \"sha1\": \"{NEW}\"\n  }},\n  \"path_in_vcs\": \"\"\n}}");
        let files = [(".git/HEAD", OLD), ("registry/orders/.cargo_vcs_info.json", &info)];
        assert_eq!(found(&files, "registry/orders"), (Some("fedcba987654".to_owned()), Vec::new()));
    }

    #[test]
    fn where_nothing_is_to_be_found_nothing_is_said() {
        for files in [&[(".git/HEAD", "ref: refs/heads/unborn\n")][..], &[(".git/HEAD", "what?")], &[(".git", "odd")]] {
            assert_eq!(found(files, ".").0, None, "{files:?}");
        }
    }
}
