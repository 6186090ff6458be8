use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn web_root() -> WebRoot {
    let root = PathBuf::from("/srv/mg/magento/pub");
    WebRoot::new(&settings::Origin { root, ..settings::Origin::default() })
}

/// A route in one line, so that tables read well.
fn summary(target: &str) -> String {
    let run = |handler: &Handler| match handler {
        Handler::Script(script) => format!("run {}{}", script.name, query_of(script)),
        Handler::NotFound(script) => {
            assert_eq!(script.name, "/errors/404.php");
            "404".to_owned()
        }
    };
    match web_root().route(target.as_bytes()) {
        Route::File { path, class, otherwise } => {
            let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
            format!("{path} {:?} {:?} else {}", class.area, class.lifetime, run(&otherwise))
        }
        Route::Page { try_file, script } => {
            assert_eq!(script.name, "/index.php");
            match try_file {
                Some(path) => format!("page, try {}", String::from_utf8_lossy(path.as_bytes())),
                None => "page".to_owned(),
            }
        }
        Route::Run(handler) => run(&handler),
        Route::Malformed => "400".to_owned(),
    }
}

fn query_of(script: &Script) -> String {
    let query = script.params.iter().find(|(name, _)| name == "QUERY_STRING");
    query.map(|(_, value)| format!("?{value}")).unwrap_or_default()
}

fn check(table: &[(&str, &str)]) {
    for (target, expected) in table {
        assert_eq!(summary(target), *expected, "{target}");
    }
}

#[test]
fn pages_go_to_the_front_controller_unless_a_file_has_their_name() {
    check(&[
        ("/", "page"),
        ("/?a=/static/x", "page"),
        ("/category-1.html?p=2", "page, try category-1.html"),
        ("/category-1.html/", "page"),
        ("/checkout/cart/", "page"),
        ("/index.php/category-1.html", "page, try index.php/category-1.html"),
        ("/index.phpx", "page, try index.phpx"),
        ("/favicon.ico", "page, try favicon.ico"),
        ("/robots.txt", "page, try robots.txt"),
        ("/rest/V1/categories", "page, try rest/V1/categories"),
        ("/.well-known/acme-challenge/x", "page, try .well-known/acme-challenge/x"),
        ("/static", "page"),
        ("/media", "page"),
        ("/pub", "page"),
        ("/errors", "page"),
        ("/setups", "page, try setups"),
        ("/x.php/y", "page, try x.php/y"),
        ("/MEDIA/x.jpg", "page, try MEDIA/x.jpg"),
    ]);
}

#[test]
fn what_names_no_file_goes_to_the_front_controller_without_a_look() {
    let long = format!("/page_cache/block/esi/blocks/x/handles/{}/", "W".repeat(400));
    check(&[
        ("/catalog/a%2Fb", "page"),
        ("/a\\b", "page"),
        ("/a/../b", "page"),
        ("/a/./b", "page"),
        ("/index.php/%0a", "page"),
        ("/media/%2e%2e/media/customer/x.jpg", "page"),
        ("/media/customer%2fx.jpg", "page"),
        ("/MEDIA/../", "page"),
        (&long, "page"),
    ]);
}

#[test]
fn a_broken_path_is_refused() {
    for target in [
        "",
        "*",
        "x",
        "/%",
        "/%zz",
        "/\0",
        "/a%00.jpg",
        "/..",
        "/%2e%2e/etc/passwd",
        "/static/..%2f..%2fetc/passwd",
        "/static/../../etc/passwd",
        "/media/%2e%2e/%2e%2e/x",
    ] {
        assert_eq!(summary(target), "400", "{target:?}");
    }
}

#[test]
fn only_seven_scripts_run() {
    check(&[
        ("/index.php", "run /index.php"),
        ("//index.php?x=1", "run /index.php"),
        ("/get.php?x", "run /get.php"),
        ("/static.php?resource=a", "run /static.php"),
        ("/errors/report.php", "run /errors/report.php"),
        ("/errors/404.php", "run /errors/404.php"),
        ("/errors/503.php", "run /errors/503.php"),
        ("/health_check.php", "run /health_check.php"),
        ("/cron.php", "404"),
        ("/INDEX.PHP", "404"),
        ("/index%2Ephp", "run /index.php"),
        ("/wp-login.php", "404"),
        ("/index.php/x.php", "404"),
        ("/errors/processor.php", "404"),
        ("/errors/default/404.phtml", "404"),
        ("/static/frontend/x.php", "404"),
        ("/static/version1/frontend/x.PHP", "404"),
        ("/media/x.php", "404"),
        ("/media/catalog/x.pHp", "404"),
        ("/pub/index.php", "404"),
        ("/pub/static/x.php", "404"),
    ]);
}

#[test]
fn hidden_files_are_denied_but_for_well_known_and_thumbnails() {
    check(&[
        ("/.user.ini", "404"),
        ("/.env", "404"),
        ("/.git/config", "404"),
        ("/.well-known/.htaccess", "404"),
        ("/static/.well-known/x.js", "404"),
        ("/x/.well-known/y", "404"),
        ("/%2Ehtaccess", "404"),
        ("/shop.git/config", "404"),
        ("/media/shop.GIT/config", "404"),
        ("/static/shop.git", "404"),
        ("/x.htaccess", "404"),
        ("/media/.htaccess", "404"),
        ("/media/catalog/.x.jpg", "404"),
        ("/media/.thumbswysiwyg/a.jpg", "media/.thumbswysiwyg/a.jpg Media Media else run /get.php"),
        ("/media/logo.github.png", "media/logo.github.png Media Media else run /get.php"),
    ]);
}

#[test]
fn a_static_file_loses_its_version_and_is_made_by_static_php_where_it_is_missing() {
    check(&[
        (
            "/static/version1795373677/frontend/a.css",
            "static/frontend/a.css Static Immutable else run /static.php?resource=frontend/a.css",
        ),
        (
            "/static/frontend/a.CSS?v=1",
            "static/frontend/a.CSS Static Static else run /static.php?resource=frontend/a.CSS&v=1",
        ),
        ("/static/version/a.js", "static/a.js Static Immutable else run /static.php?resource=a.js"),
        (
            "/static/version1/version2/a.js",
            "static/a.js Static Immutable else run /static.php?resource=a.js",
        ),
        (
            "/static/versionx/a.js",
            "static/versionx/a.js Static Static else run /static.php?resource=versionx/a.js",
        ),
        (
            "/static/a%20b&%3b.json",
            "static/a b&;.json Static Static else run /static.php?resource=a%20b%26%3B.json",
        ),
        (
            "/static/version1/a.zip",
            "static/a.zip Static NoStore else run /static.php?resource=a.zip",
        ),
        (
            "/static/deployed_version.txt",
            "static/deployed_version.txt Static Unspecified else run \
             /static.php?resource=deployed_version.txt",
        ),
        ("/static/", "run /static.php?resource="),
        ("/static/version1/", "run /static.php?resource="),
        (
            "/static/version1",
            "static/version1 Static Unspecified else run /static.php?resource=version1",
        ),
        ("/static/frontend/", "run /static.php?resource=frontend/"),
    ]);
}

#[test]
fn a_media_file_is_made_by_get_php_where_it_is_missing() {
    check(&[
        (
            "/media/catalog/product/n/o/none.jpg?width=1",
            "media/catalog/product/n/o/none.jpg Media Media else run /get.php",
        ),
        ("/media//a.webp", "media/a.webp Media Media else run /get.php"),
        ("/media/a.xml", "media/a.xml Media NoStore else run /get.php"),
        ("/media/a.html", "media/a.html Media Unspecified else run /get.php"),
        ("/media/a.pdf", "media/a.pdf Media Unspecified else run /get.php"),
        ("/media/", "404"),
        ("/media/catalog/", "404"),
    ]);
}

#[test]
fn private_media_is_denied_in_any_case_and_under_pub_too() {
    for place in ["customer", "downloadable", "import", "custom_options", "customer_address"] {
        for target in [
            format!("/media/{place}/x.jpg"),
            format!("/media/{place}"),
            format!("/media/{place}/"),
            format!("//media//{place}//x.jpg"),
            format!("/media/{}/x.jpg", place.to_uppercase()),
            format!("/pub/media/{place}/x.jpg"),
            format!("/Media/{place}/x.jpg"),
            format!("/media/%{:02x}{}/x.jpg", place.as_bytes()[0], &place[1..]),
        ] {
            assert_eq!(summary(&target), "404", "{target}");
        }
    }
    check(&[
        ("/media/theme_customization/a.xml", "404"),
        ("/media/theme_customization/b/a.XML.bak", "404"),
        ("/pub/media/theme_customization/a.xml", "404"),
        (
            "/media/theme_customization/a.png",
            "media/theme_customization/a.png Media Media else run /get.php",
        ),
        ("/media/customers/a.png", "media/customers/a.png Media Media else run /get.php"),
    ]);
}

#[test]
fn pub_errors_setup_and_update() {
    check(&[
        ("/pub/media/a.jpg", "media/a.jpg Media Unspecified else 404"),
        ("/pub/static/version1/a.js", "static/version1/a.js Static Unspecified else 404"),
        ("/pub/robots.txt", "robots.txt Static Unspecified else 404"),
        ("/pub/", "404"),
        ("/pub/errors/design.xml", "404"),
        ("/pub/shop.git/config", "404"),
        ("/pub/pub/media/customer/x", "404"),
        ("/pub/pub/media/a.jpg", "pub/media/a.jpg Static Unspecified else 404"),
        (
            "/errors/default/css/styles.css",
            "errors/default/css/styles.css Errors Unspecified else 404",
        ),
        ("/errors/local.xml", "404"),
        ("/errors/LOCAL.XML", "404"),
        ("/errors/", "404"),
        ("/setup", "404"),
        ("/setup/", "404"),
        ("/Setup/index.php", "404"),
        ("/update/pub/x.css", "404"),
    ]);
}

#[test]
fn a_script_gets_what_the_recorded_requests_show() {
    let Route::Page { script, .. } = web_root().route(b"/") else {
        panic!("a page");
    };
    assert_eq!(script.filename, "/srv/mg/magento/pub/index.php");
    assert_eq!(script.name, "/index.php");
    assert_eq!(script.document_root, "/srv/mg/magento/pub");
    assert_eq!(script.path_info, "");
    let recorded = [
        ("PHP_FLAG", "session.auto_start=off \n suhosin.session.cryptua=off"),
        ("PHP_VALUE", "memory_limit=756M \n max_execution_time=18000"),
    ];
    let expected: Vec<_> = recorded.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(script.params, expected);
}

#[test]
fn the_file_name_of_a_script_is_below_the_root_as_php_sees_it() {
    let root = WebRoot::new(&settings::Origin {
        root: PathBuf::from("/mnt/shop/pub"),
        php_root: PathBuf::from("/var/www/pub/"),
        ..settings::Origin::default()
    });
    let Route::Run(Handler::Script(script)) = root.route(b"/get.php") else {
        panic!("a script");
    };
    assert_eq!(script.filename, "/var/www/pub/get.php");
    assert_eq!(script.document_root, "/var/www/pub");
}

#[test]
fn an_error_page_gets_no_query_of_the_client() {
    let Route::Run(Handler::NotFound(script)) = web_root().route(b"/x.php?skin=evil") else {
        panic!("not found");
    };
    assert_eq!(query_of(&script), "?");
}

proptest! {
    #[test]
    fn no_target_runs_a_script_of_its_own_choice(path in "[/.%a-zA-Z0-9\\\\]{0,40}", query in ".{0,20}") {
        let target = format!("/{path}?{query}");
        let script = match web_root().route(target.as_bytes()) {
            Route::File { otherwise: Handler::Script(script) | Handler::NotFound(script), .. }
            | Route::Run(Handler::Script(script) | Handler::NotFound(script))
            | Route::Page { script, .. } => script,
            Route::Malformed => return Ok(()),
        };
        let is_known = SCRIPTS.iter().any(|known| script.name.strip_prefix('/') == Some(*known));
        prop_assert!(is_known);
        prop_assert_eq!(script.filename, format!("/srv/mg/magento/pub{}", script.name));
        prop_assert_eq!(script.path_info, "");
    }

    #[test]
    fn no_private_or_hidden_file_is_served(
        prefix in "(/pub)?/media",
        place in prop::sample::select(vec!["customer", "import", ".git", "x.php", "downloadable"]),
        glue in prop::sample::select(vec!["/", "//", "/./", "/a/../", "%2f", "/%2e/", "\\"]),
        rest in "(/[a-z]{1,5}\\.jpg)?",
    ) {
        let target = format!("{prefix}{glue}{place}{rest}");
        // "x.php/a.jpg" is below a file, so it cannot be one.
        let is_below_script = place == "x.php" && !rest.is_empty();
        if let Route::File { path, .. } = web_root().route(target.as_bytes()) {
            prop_assert!(is_below_script, "{target} -> {path:?}");
        }
    }
}
