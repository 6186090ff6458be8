//! Which file or script answers a path: what Magento's `nginx.conf.sample` says, as a pure function.
//!
//! The root is Magento's `pub/`. Whatever is stricter here than in the sample says so where it
//! stands.

mod safe_path;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::exchange::split_target;
use crate::origin::fastcgi::Script;
use crate::settings;

pub use safe_path::{SafePath, UnsafePath};

/// What the sample sets for each script: `PHP_FLAG`.
const PHP_FLAG: &str = "session.auto_start=off \n suhosin.session.cryptua=off";
/// What the sample sets for each script: `PHP_VALUE`.
const PHP_VALUE: &str = "memory_limit=756M \n max_execution_time=18000";

/// The scripts that may run, and no others.
const SCRIPTS: [&str; 7] = [
    "index.php",
    "get.php",
    "static.php",
    "errors/report.php",
    NOT_FOUND_SCRIPT,
    "errors/503.php",
    "health_check.php",
];
const NOT_FOUND_SCRIPT: &str = "errors/404.php";

/// Directories of media that only Magento's controllers may show. The sample lists the first
/// four; `customer_address` holds uploads of the same kind.
const PRIVATE_MEDIA: [&[u8]; 5] =
    [b"customer", b"downloadable", b"import", b"custom_options", b"customer_address"];

/// Endings that are never sent, neither as a program's source nor as a server's settings.
const BANNED_ENDINGS: [&[u8]; 4] = [b".php", b".phtml", b".htaccess", b".htpasswd"];

/// Endings of static and media files that browsers keep for long.
const ASSETS: [&[u8]; 17] = [
    b"ico", b"jpg", b"jpeg", b"png", b"gif", b"svg", b"svgz", b"webp", b"avif", b"avifs", b"js",
    b"css", b"eot", b"ttf", b"otf", b"woff", b"woff2",
];
/// Further endings that are assets below `static/`, where shop managers upload nothing.
const STATIC_ASSETS: [&[u8]; 3] = [b"html", b"json", b"webmanifest"];
/// Endings of files that no cache may keep: exports and archives.
const ARCHIVES: [&[u8]; 6] = [b"zip", b"gz", b"gzip", b"bz2", b"csv", b"xml"];

/// What answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A file; where there is none, `otherwise`. Its trouble (504, 503) is the client's.
    File {
        /// The file.
        path: SafePath,
        /// What kind of file.
        class: FileClass,
        /// For what is not there.
        otherwise: Handler,
    },
    /// The front controller, unless a file has exactly that name. Trouble in finding out must not
    /// keep the page from being made.
    Page {
        /// The file to look for; none where the path can name no file.
        try_file: Option<SafePath>,
        /// `index.php`
        script: Script,
    },
    /// PHP, without a look at the file system.
    Run(Handler),
    /// 400: the path is broken.
    Malformed,
}

/// What PHP is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// A script, given the request as it came.
    Script(Script),
    /// Magento's own page for 404, which sets that status. It is given a GET (a HEAD stays one)
    /// without content. Without PHP a bare 404 says the same.
    NotFound(Script),
}

/// What kind of file a path names: who waits for it, and what caches are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileClass {
    /// Where it lies.
    pub area: Area,
    /// How long caches may keep it.
    pub lifetime: Lifetime,
}

/// Where a file lies. Areas have threads of their own, so that a file system that hangs below one
/// leaves the others alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// Anywhere else below the root: `robots.txt`, a site map.
    Page,
    /// `errors/`: what Magento's error pages are made of.
    Errors,
    /// `static/`, on the server's own disk; also what `/pub/` names.
    Static,
    /// `media/`, often a link to NFS.
    Media,
}

/// How long caches may keep a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lifetime {
    /// Nothing is said.
    Unspecified,
    /// A static asset without a version in its URL.
    Static,
    /// A static asset whose URL changes with each deployment.
    Immutable,
    /// A media asset.
    Media,
    /// An export or an archive.
    NoStore,
}

/// The routes of one web root.
#[derive(Clone, Debug)]
pub struct WebRoot {
    document_root: String,
}

impl WebRoot {
    /// The root as PHP sees it: `origin.php_root`, else `origin.root`.
    pub fn new(origin: &settings::Origin) -> Self {
        let no_php_root = origin.php_root.as_os_str().is_empty();
        let root: &Path = if no_php_root { &origin.root } else { &origin.php_root };
        // Settings are UTF-8 text, so nothing is lost here.
        let root = root.to_string_lossy();
        Self { document_root: root.trim_end_matches('/').to_owned() }
    }

    /// What answers this target (path and query, raw).
    pub fn route(&self, target: &[u8]) -> Route {
        let (raw_path, query) = split_target(target);
        let path = match SafePath::check(raw_path) {
            Ok(path) => path,
            Err(refusal) if refusal.is_malformed() => return Route::Malformed,
            // It names no file, but Magento reads the raw target: an encoded slash is usual in
            // its longer URLs.
            Err(_) => return self.page(None),
        };
        if is_hidden(&path) || is_private(&path) {
            return self.not_found();
        }
        if let Some(script) = SCRIPTS.iter().find(|script| names_file(&path, script)) {
            return Route::Run(Handler::Script(self.script(script)));
        }
        if !path.names_directory() && ends_with_any(path.as_bytes(), &BANNED_ENDINGS) {
            return self.not_found();
        }
        let first = path.names().next().unwrap_or_default();
        // These four are directories. Their bare names are pages without a file, so that nobody
        // who waits for a page touches what may be the mount point of a file system that hangs.
        match first {
            b"static" => self.static_file(&path, query),
            b"media" => self.media_file(&path),
            b"errors" => self.error_file(path),
            b"pub" => self.pub_file(&path),
            // The set-up and update applications lie beside pub/. The sample runs them; a public
            // listener has no use for either.
            _ if is_any(first, &[b"setup", b"update"]) => self.not_found(),
            _ if has_git(path.as_bytes()) => self.not_found(),
            _ => self.page(Some(path)),
        }
    }

    fn static_file(&self, path: &SafePath, query: Option<&[u8]>) -> Route {
        let Some(mut below) = path.below(b"static") else {
            return self.page(None);
        };
        let mut versioned = false;
        while let Some(rest) = without_version(&below) {
            versioned = true;
            below = rest;
        }
        let lifetime = match lifetime_of(&below, &[&ASSETS, &STATIC_ASSETS]) {
            Kind::Asset if versioned => Lifetime::Immutable,
            Kind::Asset => Lifetime::Static,
            Kind::Archive => Lifetime::NoStore,
            Kind::Other if has_git(below.as_bytes()) => return self.not_found(),
            Kind::Other => Lifetime::Unspecified,
        };
        let otherwise = Handler::Script(self.static_script(&below, query));
        if below.names_directory() {
            return Route::Run(otherwise);
        }
        let class = FileClass { area: Area::Static, lifetime };
        Route::File { path: below.under("static"), class, otherwise }
    }

    fn media_file(&self, path: &SafePath) -> Route {
        let Some(below) = path.below(b"media") else {
            return self.page(None);
        };
        // A directory has no listing, and no image ends with a slash.
        if below.names_directory() {
            return self.not_found();
        }
        let lifetime = match lifetime_of(&below, &[&ASSETS]) {
            Kind::Asset => Lifetime::Media,
            Kind::Archive => Lifetime::NoStore,
            Kind::Other if has_git(below.as_bytes()) => return self.not_found(),
            Kind::Other => Lifetime::Unspecified,
        };
        let class = FileClass { area: Area::Media, lifetime };
        let otherwise = Handler::Script(self.script("get.php"));
        Route::File { path: path.clone(), class, otherwise }
    }

    fn error_file(&self, path: SafePath) -> Route {
        if path.below(b"errors").is_none() {
            return self.page(None);
        }
        if path.names_directory() || ends_with_any(path.as_bytes(), &[b".xml"]) {
            return self.not_found();
        }
        self.file_alone(path, Area::Errors)
    }

    /// `/pub/` is there for links made when the root was one directory up. What it names is a
    /// file or nothing: no version is taken off, and no script makes what is missing.
    fn pub_file(&self, path: &SafePath) -> Route {
        let Some(below) = path.below(b"pub") else {
            return self.page(None);
        };
        let first = below.names().next().unwrap_or_default();
        if below.names_directory() || is_any(first, &[b"errors"]) || has_git(below.as_bytes()) {
            return self.not_found();
        }
        let area = if first == b"media" { Area::Media } else { Area::Static };
        self.file_alone(below, area)
    }

    fn file_alone(&self, path: SafePath, area: Area) -> Route {
        let class = FileClass { area, lifetime: Lifetime::Unspecified };
        Route::File { path, class, otherwise: self.not_found_handler() }
    }

    fn page(&self, try_file: Option<SafePath>) -> Route {
        let try_file = try_file.filter(|path| !path.names_directory());
        Route::Page { try_file, script: self.script("index.php") }
    }

    fn not_found(&self) -> Route {
        Route::Run(self.not_found_handler())
    }

    fn not_found_handler(&self) -> Handler {
        let mut script = self.script(NOT_FOUND_SCRIPT);
        script.params.push(("QUERY_STRING".to_owned(), String::new()));
        Handler::NotFound(script)
    }

    /// `static.php`, which makes a static file where Magento is not in production mode.
    fn static_script(&self, below: &SafePath, query: Option<&[u8]>) -> Script {
        let mut script = self.script("static.php");
        let mut arguments = String::from("resource=");
        push_escaped(&mut arguments, below.as_bytes());
        if below.names_directory() && !below.as_bytes().is_empty() {
            arguments.push('/');
        }
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            arguments.push('&');
            arguments.push_str(&String::from_utf8_lossy(query));
        }
        script.params.push(("QUERY_STRING".to_owned(), arguments));
        script
    }

    fn script(&self, name: &str) -> Script {
        Script {
            filename: format!("{}/{name}", self.document_root),
            name: format!("/{name}"),
            // The sample hands no PATH_INFO on: Magento reads REQUEST_URI.
            path_info: String::new(),
            document_root: self.document_root.clone(),
            params: vec![
                ("PHP_FLAG".to_owned(), PHP_FLAG.to_owned()),
                ("PHP_VALUE".to_owned(), PHP_VALUE.to_owned()),
            ],
        }
    }
}

/// What the ending of a file's name says.
#[derive(Clone, Copy)]
enum Kind {
    Asset,
    Archive,
    Other,
}

fn lifetime_of(path: &SafePath, assets: &[&[&[u8]]]) -> Kind {
    match path.extension() {
        Some(extension) if assets.iter().any(|list| is_any(extension, list)) => Kind::Asset,
        Some(extension) if is_any(extension, &ARCHIVES) => Kind::Archive,
        _ => Kind::Other,
    }
}

/// Does a name begin with a dot? Two may: `.well-known` (RFC 8615), and the thumbnails of
/// Magento's image browser, `media/.thumbs...`. The sample refuses some of the others by name.
fn is_hidden(path: &SafePath) -> bool {
    let is_media = path.names().next() == Some(b"media");
    path.names().enumerate().any(|(depth, name)| {
        let is_allowed = (depth == 0 && name == b".well-known")
            || (depth == 1 && is_media && name.starts_with(b".thumbs"));
        name.starts_with(b".") && !is_allowed
    })
}

/// Is it media that only Magento may show? Compared without case, since a file system that folds
/// case would open it, and behind any number of `pub`, since some roots hold a link `pub` to
/// themselves.
fn is_private(path: &SafePath) -> bool {
    let mut names = path.names().skip_while(|name| name.eq_ignore_ascii_case(b"pub"));
    if !names.next().is_some_and(|name| name.eq_ignore_ascii_case(b"media")) {
        return false;
    }
    let place = names.next().unwrap_or_default();
    let is_theme = place.eq_ignore_ascii_case(b"theme_customization");
    is_any(place, &PRIVATE_MEDIA)
        || (is_theme && names.any(|name| contains_ignoring_case(name, b".xml")))
}

/// The sample bans `.git` wherever it stands, so also `shop.git/config`.
fn has_git(path: &[u8]) -> bool {
    contains_ignoring_case(path, b".git")
}

fn contains_ignoring_case(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}

/// Takes `version1234/` off; the digits may be missing, as in the sample.
fn without_version(below_static: &SafePath) -> Option<SafePath> {
    let first = below_static.names().next()?;
    let digits = first.strip_prefix(b"version")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    below_static.below(first)
}

fn names_file(path: &SafePath, name: &str) -> bool {
    !path.names_directory() && path.as_bytes() == name.as_bytes()
}

fn is_any(word: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|candidate| word.eq_ignore_ascii_case(candidate))
}

fn ends_with_any(path: &[u8], endings: &[&[u8]]) -> bool {
    endings.iter().any(|ending| {
        let start = path.len().checked_sub(ending.len());
        start.is_some_and(|start| path[start..].eq_ignore_ascii_case(ending))
    })
}

/// Escapes what would end a query's value or be no ASCII (nginx escapes the same in a rewrite).
fn push_escaped(out: &mut String, value: &[u8]) {
    for &byte in value {
        if byte.is_ascii_graphic() && !b"\"#%&+?;".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
            out.extend(['%', digit(byte >> 4), digit(byte & 15)].map(|c| c.to_ascii_uppercase()));
        }
    }
}
