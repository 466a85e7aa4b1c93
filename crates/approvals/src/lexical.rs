//! Paths as text: what can be said about a path without looking at the disk.

/// Removes `.` segments, doubled slashes and, where a segment precedes them, `..` segments.
///
/// A trailing slash stays, an empty path is `.`, and `..` at the root vanishes, so that the result
/// is what upstream binds a working directory by (exec and approvals §8.1).
pub fn normalise(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => match segments.last() {
                Some(&last) if last != ".." => {
                    segments.pop();
                }
                _ if absolute => {}
                _ => segments.push(segment),
            },
            _ => segments.push(segment),
        }
    }
    let mut normal = segments.join("/");
    if absolute {
        normal.insert(0, '/');
    }
    if normal.is_empty() {
        normal.push('.');
    }
    if path.ends_with('/') && !normal.ends_with('/') {
        normal.push('/');
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn a_path_is_normalised_without_the_disk() {
        for (path, normal) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("//", "/"),
            ("/a//b/./c", "/a/b/c"),
            ("/a/b/..", "/a"),
            ("/a/b/../", "/a/"),
            ("/..", "/"),
            ("/../../a", "/a"),
            ("a/..", "."),
            ("a/../..", ".."),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("./a", "a"),
            ("./", "./"),
            ("/a/", "/a/"),
        ] {
            assert_eq!(normalise(path), normal, "{path:?}");
        }
    }
}
