<?php
// Counts what arrives here, and tells which fields of one connection or of another URL came along.
file_put_contents(getenv('PARVIS_STATE') . '/requests.log', "request\n", FILE_APPEND | LOCK_EX);
$names = ['X_TRACE', 'X_OTHER', 'COOKIE', 'AUTHORIZATION', 'X_MAGENTO_VARY', 'CONTENT_TYPE', 'KEEP_ALIVE', 'PROXY_CONNECTION',
    'TE', 'TRAILER', 'PROXY_AUTHORIZATION', 'PROXY', 'UPGRADE', 'X_ORIGINAL_URL'];
$saw = array_filter($names, fn($name) => ($_SERVER["HTTP_$name"] ?? '') !== '');
$saw = array_map(fn($name) => strtolower(strtr($name, '_', '-')), $saw);
if (!isset($_SERVER['HTTP_X_FORWARDED_FOR'])) {
    $saw[] = 'no x-forwarded-for';
}
header_remove('X-Powered-By');
header('X-Saw: ' . (implode(' ', $saw) ?: '-'));
header('X-Magento-Tags: t');
$kept = $_SERVER['REQUEST_METHOD'] === 'GET';
header('Cache-Control: ' . ($kept ? 'public, max-age=600, s-maxage=600' : 'no-store'));
echo $_SERVER['REQUEST_METHOD'], ' ', $_SERVER['REQUEST_URI'];
