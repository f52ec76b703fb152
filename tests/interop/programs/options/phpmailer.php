<?php
// Sends what the file OPTIONS names with PHPMailer: {transport, mails}, in PHPMailer's own property names. Host, port and
// login stand in the environment (see driver/clients.py) and hold where `transport` says nothing else. Prints one line
// of JSON a mail: what the library says of it.
use PHPMailer\PHPMailer\Exception;
use PHPMailer\PHPMailer\OAuthTokenProvider;
use PHPMailer\PHPMailer\PHPMailer;

require '/usr/share/php/libphp-phpmailer/autoload.php';

class Token implements OAuthTokenProvider
{
    public function __construct(private string $user, private string $token)
    {
    }

    public function getOauth64(): string
    {
        return base64_encode("user={$this->user}\1auth=Bearer {$this->token}\1\1");
    }
}

$options = json_decode(file_get_contents(getenv('OPTIONS')), true, 16, JSON_THROW_ON_ERROR);
$mail = new PHPMailer(true);
$mail->isSMTP();
$mail->Host = getenv('SMTP_HOST');
$mail->Port = (int) getenv('SMTP_PORT');
$mail->SMTPAuth = true;
$mail->Username = getenv('SMTP_USERNAME');
$mail->Password = getenv('SMTP_PASSWORD');
$mail->CharSet = PHPMailer::CHARSET_UTF8;
if (isset($options['token'])) {
    $mail->setOAuth(new Token($options['token']['user'], $options['token']['token']));
}
foreach ($options['transport'] as $name => $value) {
    $mail->$name = $value;
}
foreach ($options['mails'] as $one) {
    $mail->clearAllRecipients();
    foreach ($one['to'] as $address) {
        $mail->addAddress($address);
    }
    $mail->setFrom($one['from'], '', false);
    $mail->Subject = $one['subject'];
    $mail->Body = $one['text'];
    $result = ['ok' => true];
    try {
        $mail->send();
    } catch (Exception $e) {
        $result = ['ok' => false, 'error' => $e->getMessage()];
    }
    // false where PHPMailer finds no id in the reply to DATA.
    $result['id'] = $mail->getSMTPInstance()->getLastTransactionID();
    $result['reply'] = trim($mail->getSMTPInstance()->getLastReply());
    // After a handshake that failed, what it read as a reply may be anything.
    echo json_encode($result, JSON_INVALID_UTF8_SUBSTITUTE), "\n";
}
$mail->smtpClose();
