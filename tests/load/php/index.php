<?php
declare(strict_types=1);

// A shop for the load test, which plays Magento to what is in front of it: pages with tags that may be shared, a cart, a
// checkout and an account by the session, and private sections. It takes as long as PHP does, but sleeps instead of working,
// so that a small machine can have many children. What pages look like is in shop.json; tests/load prepares their bodies.
//
//   LOAD_HANDLER    tests/php/session.php: sessions are locked, read and written as Magento does it
//   LOAD_STORE      the Unix socket of the sessions' store: Redis, or Parvis in front of it
//   LOAD_DIRECTORY  pages.php, bodies/KIND, and `pace`, by which all times are multiplied

require getenv('LOAD_HANDLER');

const CUSTOMERS = '2570047f535284b8cef6f9c50e92dd48a922201dd5548db65346424fc31df284';

/** Which kind of page it is; null for none. */
function kind_of(string $method, string $path, array $query, array $session): ?string
{
    return match (true) {
        $path === '/' => 'home',
        preg_match('~^/category-\d+\.html$~', $path) === 1 => 'category',
        preg_match('~^/simple-product-\d+\.html$~', $path) === 1 => 'product',
        $path === '/catalogsearch/result/' => 'search',
        str_starts_with($path, '/page_cache/block/esi/') => 'menu',
        $path === '/customer/section/load/' => preg_match('/^(customer|cart,messages)/', $query['sections'] ?? '') === 1 ? 'section-short' : 'section',
        str_starts_with($path, '/checkout/cart/add/') => $method === 'POST' ? 'add' : null,
        $path === '/checkout/cart/' => ($session['cart'] ?? []) === [] ? 'cart-empty' : 'cart',
        $path === '/checkout/', $path === '/checkout/onepage/success/' => 'checkout',
        str_starts_with($path, '/rest/default/V1/guest-carts/') => 'step',
        $path === '/customer/account/login/' => 'login',
        $path === '/customer/account/loginPost/' => $method === 'POST' ? 'login-post' : null,
        $path === '/customer/account/', $path === '/sales/order/history/' => 'account',
        default => null,
    };
}

/** Milliseconds that this page takes: the same for the same page. */
function takes(array $page, string $path, array $query): int
{
    unset($query['_']);
    [$least, $most] = $page['ms'];
    $ms = $least + crc32($path . http_build_query($query)) % ($most - $least + 1);
    return (int) ($ms * (float) (@file_get_contents(getenv('LOAD_DIRECTORY') . '/pace') ?: 1));
}

/** Tags as Magento gives them. */
function tags(string $kind, string $path): string
{
    preg_match('/\d+/', $path, $found);
    $id = (int) ($found[0] ?? 1);
    $listed = fn (int $count): string => implode(',', array_map(fn (int $at): string => 'cat_p_' . ($id * 17 + $at) % 528, range(1, $count)));
    return match ($kind) {
        'home' => 'store,cms_b,cms_p_2',
        'category' => "store,cms_b,cat_c_$id,cat_c_p_$id,cat_p," . $listed(12),
        'product' => "store,cms_b,cat_p_$id,cat_p,review_block",
        'search' => 'store,cms_b,cat_c_p_2,cat_p,' . $listed(12),
        default => 'cat_c,cat_c_3,cat_c_10,cat_c_17,cat_c_24,cat_c_31',
    };
}

/** What the page does to the session and the cookies; where it leads to, if elsewhere. */
function act(string $kind, string $path, array $query): ?string
{
    if ($kind === 'add') {
        $product = (int) ($_POST['product'] ?? 0);
        $_SESSION['cart'][$product] = ($_SESSION['cart'][$product] ?? 0) + (int) ($_POST['qty'] ?? 1);
        $_SESSION['checkout']['quote_id'] = $_SESSION['checkout']['quote_id'] ?? random_int(1, 1 << 30);
        return ($_SERVER['HTTP_X_REQUESTED_WITH'] ?? '') === '' ? '/checkout/cart/' : null;
    }
    if ($kind === 'login-post') {
        $right = ($_POST['login']['password'] ?? '') === 'right';
        $_SESSION['customer'] = $right ? 1 : null;
        return $right ? '/customer/account/' : '/customer/account/login/';
    }
    if ($kind === 'account' && empty($_SESSION['customer'])) {
        return '/customer/account/login/';
    }
    if ($path === '/checkout/' && ($_SESSION['cart'] ?? []) === []) {
        return '/checkout/cart/';
    }
    if (str_ends_with($path, '/payment-information')) {
        $_SESSION['order'] = $_SESSION['cart'] ?? [];
    }
    if ($path === '/checkout/onepage/success/') {
        if (($_SESSION['order'] ?? []) === []) {
            return '/checkout/cart/';
        }
        $_SESSION['cart'] = $_SESSION['order'] = [];
    }
    return null;
}

function cookies(bool $posted): void
{
    $more = ['path' => '/', 'samesite' => 'Lax', 'expires' => time() + 3600];
    setcookie('PHPSESSID', session_id(), $more + ['httponly' => true]);
    setcookie('form_key', $_COOKIE['form_key'] ?? substr(md5(session_id()), 0, 16), $more);
    if ($posted) {
        setcookie('private_content_version', bin2hex(random_bytes(16)), $more);
    }
    $vary = empty($_SESSION['customer']) ? '' : CUSTOMERS;
    if ($vary !== '') {
        setcookie('X-Magento-Vary', $vary, $more);
    } elseif (isset($_COOKIE['X-Magento-Vary'])) {
        setcookie('X-Magento-Vary', '', $more);
    }
}

function answer(): void
{
    $method = $_SERVER['REQUEST_METHOD'];
    $path = (string) parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
    if ($path === '/health_check.php') {
        header('Content-Type: text/html; charset=UTF-8');
        return;
    }
    $redis = new Redis();
    $redis->connect(getenv('LOAD_STORE'));
    $handler = new SessionHandlerLikeMagentos($redis, [
        'req' => "$method {$_SERVER['HTTP_HOST']}$path", 'agent' => $_SERVER['HTTP_USER_AGENT'] ?? '', 'max_concurrency' => 6,
    ]);
    session_set_save_handler($handler, false);
    session_start(['use_cookies' => false, 'cache_limiter' => '', 'serialize_handler' => 'php']);
    $pages = require getenv('LOAD_DIRECTORY') . '/pages.php';
    $kind = kind_of($method, $path, $_GET, $_SESSION) ?? 'missing';
    $page = $pages[$kind];
    $ms = takes($page, $path, $_GET);
    usleep(1000 * $ms);
    $_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
    $leads = act($kind, $path, $_GET);
    foreach ($page['head'] as $line) {
        header($line, false);
    }
    header("X-Load-Ms: $ms");
    cookies($method === 'POST');
    session_write_close();
    if (isset($page['max_age']) && $method === 'GET') {
        header("Cache-Control: max-age={$page['max_age']}, public, s-maxage={$page['max_age']}");
        header('Pragma: cache');
        header('X-Magento-Tags: ' . tags($kind, $path));
        if ($kind !== 'menu') {
            header("X-Load-Path: $path");
        }
    } else {
        header('Cache-Control: max-age=0, must-revalidate, no-cache, no-store');
        header('Pragma: no-cache');
        // The generator looks whether it gets another's.
        if (isset($_COOKIE['PHPSESSID'])) {
            header("X-Load-For: {$_COOKIE['PHPSESSID']}");
        }
    }
    if ($leads !== null) {
        header("Location: http://{$_SERVER['HTTP_HOST']}$leads", true, 302);
        return;
    }
    http_response_code($kind === 'missing' ? 404 : 200);
    readfile(getenv('LOAD_DIRECTORY') . "/bodies/$kind");
}

header_remove('X-Powered-By');
ini_set('default_mimetype', '');
if (isset($_COOKIE['PHPSESSID']) && preg_match('/^[A-Za-z0-9,-]{1,128}$/', $_COOKIE['PHPSESSID'])) {
    session_id($_COOKIE['PHPSESSID']);
}
try {
    answer();
} catch (TooManyWait) {
    http_response_code(503);
    echo 'too many requests of this session';
}
