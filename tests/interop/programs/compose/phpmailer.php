<?php
// Composes a message from MAIL_* (see driver/clients.py) with PHPMailer and keeps what it sent in MAIL_SENT_COPY.
use PHPMailer\PHPMailer\PHPMailer;

require '/usr/share/php/libphp-phpmailer/autoload.php';

function addresses(string $name): array
{
    return getenv($name) ? explode(',', getenv($name)) : [];
}

$mail = new PHPMailer(true);
$mail->isSMTP();
$mail->Host = getenv('SMTP_HOST');
$mail->Port = (int) getenv('SMTP_PORT');
$mail->SMTPAuth = true;
$mail->Username = getenv('SMTP_USERNAME');
$mail->Password = getenv('SMTP_PASSWORD');
$mail->AuthType = getenv('SMTP_AUTH') ?: '';
$mail->SMTPSecure = getenv('SMTP_SECURE') === 'implicit'
    ? PHPMailer::ENCRYPTION_SMTPS
    : PHPMailer::ENCRYPTION_STARTTLS;

$mail->CharSet = PHPMailer::CHARSET_UTF8;
$mail->setFrom(getenv('MAIL_FROM'));
foreach (addresses('MAIL_TO') as $address) {
    $mail->addAddress($address);
}
foreach (addresses('MAIL_CC') as $address) {
    $mail->addCC($address);
}
foreach (addresses('MAIL_BCC') as $address) {
    $mail->addBCC($address);
}
foreach (addresses('MAIL_ATTACHMENT') as $path) {
    $mail->addAttachment($path);
}
$mail->Subject = getenv('MAIL_SUBJECT');
$mail->Body = file_get_contents(getenv('MAIL_TEXT'));
$mail->send();
file_put_contents(getenv('MAIL_SENT_COPY'), $mail->getSentMIMEMessage());
