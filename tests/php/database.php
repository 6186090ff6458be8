<?php
// A page that needs a database for `alone` milliseconds, which does one query after the other.
header_remove('X-Powered-By');
header('Cache-Control: no-store');
$database = fopen(getenv('PARVIS_STATE') . '/database.lock', 'c');
flock($database, LOCK_EX);
usleep(1000 * (int) ($_GET['alone'] ?? 1));
flock($database, LOCK_UN);
echo '<html></html>';
