//! The files that documents name: vendored and our own, in the binary, compressed once.
//!
//! A file's address has a hash of its content, so a browser may keep it for good and asks anew when it changed.

use std::io::Write as _;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;

/// `Cache-Control` of every asset: the name changes with the content.
pub const CACHE_CONTROL: &str = "public, max-age=31536000, immutable";

/// A file to be served.
#[derive(Debug)]
pub struct Asset {
    /// Its address below `/assets/`, with the hash.
    pub path: String,
    /// Name without the hash.
    pub name: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// The content.
    pub bytes: &'static [u8],
    /// The content with gzip; as good as every client takes it.
    pub gzip: Vec<u8>,
}

const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    vec![
        asset("page.css", CSS, include_bytes!("../assets/page.css")),
        asset("theme.js", JS, include_bytes!("../assets/theme.js")),
        asset("page.js", JS, include_bytes!("../assets/page.js")),
        asset("graph.js", JS, include_bytes!("../assets/graph.js")),
        asset("rows.js", JS, include_bytes!("../assets/rows.js")),
        asset("sql.js", JS, include_bytes!("../assets/sql.js")),
        asset("console.js", JS, include_bytes!("../assets/console.js")),
        asset("uplot.js", JS, include_bytes!("../assets/uplot.js")),
        asset("uplot.css", CSS, include_bytes!("../assets/uplot.css")),
        asset("icon.svg", "image/svg+xml", include_bytes!("../assets/icon.svg")),
        asset("uplot.LICENSE", "text/plain; charset=utf-8", include_bytes!("../assets/uplot.LICENSE")),
    ]
});

fn asset(name: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Asset {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let path = format!("{stem}.{:016x}.{extension}", hash(bytes));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing into memory does not fail; if it did, an empty body would be left out by the server.
    let gzip = encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default();
    Asset { path, name, content_type, bytes, gzip }
}

/// FNV-1a: tells versions apart, protects from nothing.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// All files.
pub fn all() -> &'static [Asset] {
    &ASSETS
}

/// The file at an address below `/assets/`.
pub fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

/// The whole address of a file, by its name.
pub fn href(name: &str) -> String {
    let path = ASSETS.iter().find(|asset| asset.name == name).map_or(name, |asset| asset.path.as_str());
    format!("/assets/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_carries_its_contents_hash() {
        let href = href("page.css");
        let found = find(href.strip_prefix("/assets/").unwrap()).unwrap();
        assert_eq!(found.name, "page.css");
        assert!(find("page.css").is_none());
        assert_ne!(hash(b"a"), hash(b"b"));
    }

    #[test]
    fn a_first_load_is_small() {
        let bytes: usize =
            all().iter().filter(|asset| asset.name != "uplot.LICENSE").map(|asset| asset.gzip.len()).sum();
        assert!(bytes < 100_000, "{bytes} bytes of assets");
    }
}
