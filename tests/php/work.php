<?php
// A page that takes `work` milliseconds without CPU; POSTs and /customer/ are not cacheable.
usleep(1000 * (int) ($_GET['work'] ?? 1));
header_remove('X-Powered-By');
if ($_SERVER['REQUEST_METHOD'] === 'GET' && !str_starts_with($_SERVER['REQUEST_URI'], '/customer/')) {
    header('Cache-Control: max-age=86400, public, s-maxage=86400');
    header('X-Magento-Tags: cat_p_1,store');
} else {
    header('Cache-Control: no-store, no-cache, must-revalidate, max-age=0');
}
echo '<html>', str_repeat('.', max(0, (int) ($_GET['bytes'] ?? 30000))), '</html>';
