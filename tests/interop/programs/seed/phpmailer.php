<?php
// SendPost's documented PHPMailer sample, the same library calls. What differs comes from the environment:
// SMTP_HOST, SMTP_PORT, SMTP_USERNAME, SMTP_PASSWORD and, for the CA, `php -d openssl.cafile=`.
use PHPMailer\PHPMailer\Exception;
use PHPMailer\PHPMailer\PHPMailer;
use PHPMailer\PHPMailer\SMTP;

require '/usr/share/php/libphp-phpmailer/autoload.php';

$mail = new PHPMailer(true);

try {
    $mail->SMTPDebug = SMTP::DEBUG_CONNECTION;
    $mail->isSMTP();
    $mail->Host = getenv('SMTP_HOST');
    $mail->SMTPAuth = true;
    $mail->Username = getenv('SMTP_USERNAME');
    $mail->Password = getenv('SMTP_PASSWORD');
    $mail->SMTPSecure = PHPMailer::ENCRYPTION_STARTTLS;
    $mail->Port = (int) getenv('SMTP_PORT');

    $mail->setFrom('erlich@piedpiper.com', 'Erlich');
    $mail->addAddress('gilfoyle@piedpiper.com', 'Gilfoyle');

    $mail->isHTML(true);
    $mail->Subject = 'Here is the subject';
    $mail->Body = 'This is the HTML message body <b>in bold!</b>';
    $mail->AltBody = 'This is the body in plain text for non-HTML mail clients';

    $mail->send();
    if (getenv('MAIL_SENT_COPY')) {
        file_put_contents(getenv('MAIL_SENT_COPY'), $mail->getSentMIMEMessage());
    }
    echo "sent\n";
} catch (Exception $e) {
    fwrite(STDERR, "not sent: {$mail->ErrorInfo}\n");
    exit(1);
}
