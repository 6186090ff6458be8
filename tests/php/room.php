<?php
declare(strict_types=1);

// A small shop for the tests of the waiting room: /sale.html may be stored, all else is a visitor's own, and a POST puts something
// into the cart, as Magento's checkout session has it. The session is that of session.php.
//
//   hold        milliseconds of work

require getenv('PARVIS_CORPUS') . '/../php/session.php';

header('Content-Type: text/html; charset=utf-8');
usleep(1000 * (int) knob('hold', '0'));
if (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) === '/sale.html') {
    header('Cache-Control: public, max-age=600, s-maxage=600');
    header('X-Magento-Tags: cat_c_7,store');
    echo "<!DOCTYPE html><title>Sale</title><h1>Sale</h1>\n";
    return;
}
header('Cache-Control: no-store');
ini_set('session.serialize_handler', 'php');
ini_set('session.cache_limiter', '');
if (knob('store') !== '') {
    session_set_save_handler(handler(), false);
    session_start();
    setcookie(session_name(), session_id(), ['path' => '/', 'httponly' => true]);
}
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $_SESSION['checkout'] = ['quote_id_1' => '7'];
    $_SESSION['items'] = ($_SESSION['items'] ?? 0) + 1;
}
printf(
    "<!DOCTYPE html><title>Shop</title><h1>Shop</h1><p id=session>%s</p><p id=items>%d</p>\n"
    . "<form method=post action=/add><button>Add to cart</button></form>\n",
    session_id(),
    $_SESSION['items'] ?? 0,
);
