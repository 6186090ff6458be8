<?php
// Tells what PHP saw of a request. `pause` waits so many milliseconds in the middle of the reply.
header_remove('X-Powered-By');
header('Content-Type: application/json');
header('Cache-Control: no-store, no-cache, must-revalidate, max-age=0');
$body = file_get_contents('php://input');
$told = json_encode([
    'method' => $_SERVER['REQUEST_METHOD'],
    'bytes' => strlen($body),
    'sha1' => sha1($body),
    'post' => $_POST,
    'server' => array_filter($_SERVER, fn($name) => !in_array($name, ['argv', 'argc'], true), ARRAY_FILTER_USE_KEY),
], JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE);
$pause = (int) ($_GET['pause'] ?? 0);
if ($pause > 0) {
    usleep(500 * $pause);
    echo substr($told, 0, 100);
    flush();
    usleep(500 * $pause);
    echo substr($told, 100);
} else {
    echo $told;
}
