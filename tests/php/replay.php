<?php
// Answers each request as the recorded store did: the exchange is named by X-Corpus-Name; an ESI
// fragment, which carries the name of its page, is known by its path.
// What was to expire after the recording expires forty years later, so that it is not past today.
function in_the_future(string $value): string
{
    return preg_replace_callback('/\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT/', function ($date) {
        $time = strtotime($date[0]);
        $recorded = strtotime('22 Nov 2026');
        return $time < $recorded ? $date[0] : gmdate('D, d M Y H:i:s', strtotime('+40 years', $time)) . ' GMT';
    }, $value);
}

$corpus = getenv('PARVIS_CORPUS');
$name = $_SERVER['HTTP_X_CORPUS_NAME'] ?? '';
if (str_starts_with($_SERVER['REQUEST_URI'], '/page_cache/block/esi/')) {
    $name = '02-esi-topnav';
}
$exchange = null;
foreach (new SplFileObject("$corpus/http.jsonl") as $line) {
    if (str_starts_with($line, '{"name": "' . $name . '"')) {
        $exchange = json_decode($line, true);
        break;
    }
}
if ($exchange === null) {
    http_response_code(500);
    echo "no exchange is named $name";
    exit;
}
$response = $exchange['response'];
header_remove('X-Powered-By');
ini_set('default_mimetype', '');
http_response_code($response['status']);
// What nginx, not PHP, had put there.
$not_php = ['server', 'date', 'transfer-encoding', 'connection', 'content-encoding', 'content-length', 'vary', 'etag', 'last-modified', 'accept-ranges', 'content-range'];
foreach ($response['headers'] as [$header, $value]) {
    if (!in_array(strtolower($header), $not_php, true)) {
        header("$header: " . in_the_future($value), false, $response['status']);
    }
}
$body = '';
foreach ($response['esi'] ?? [] as $include) {
    $body = str_pad($body, $include['offset'], '.') . $include['tag'];
}
echo str_pad($body, $response['decoded_body_bytes'], '.');
