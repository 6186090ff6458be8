<?php
// A cacheable page that dies in the way its query says, after a part of it has left PHP.
header_remove('X-Powered-By');
header('Cache-Control: max-age=86400, public, s-maxage=86400');
header('X-Magento-Tags: cat_p_1,store');
if (isset($_GET['length'])) {
    header('Content-Length: 20013');
}
while (ob_get_level() > 0) {
    ob_end_flush();
}
echo '<html>', str_repeat('.', 20000);
flush();
$mark = getenv('PARVIS_STATE') . '/died-' . md5($_SERVER['REQUEST_URI']);
if (!file_exists($mark)) {
    touch($mark);
    switch ($_GET['by'] ?? '') {
        case 'kill':
            posix_kill(getmypid(), 9);
            break;
        case 'exit':
            exit(3);
        case 'fatal':
            a_function_that_is_not_there();
        case 'memory':
            ini_set('memory_limit', '4M');
            $all = str_repeat('x', 100 << 20);
    }
}
echo '</html>';
