// Composes a message from MAIL_* (see driver/clients.py) with JavaMail and keeps what it sent in MAIL_SENT_COPY.
import java.io.File;
import java.io.FileOutputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import javax.mail.Message.RecipientType;
import javax.mail.Session;
import javax.mail.Transport;
import javax.mail.internet.InternetAddress;
import javax.mail.internet.MimeBodyPart;
import javax.mail.internet.MimeMessage;
import javax.mail.internet.MimeMultipart;

public class Compose {
    public static void main(String[] args) throws Exception {
        boolean implicit = "implicit".equals(System.getenv("SMTP_SECURE"));
        Properties props = System.getProperties();
        props.put("mail.transport.protocol", "smtp");
        props.put("mail.smtp.port", System.getenv("SMTP_PORT"));
        props.put("mail.smtp.auth", "true");
        props.put("mail.smtp.ssl.enable", String.valueOf(implicit));
        props.put("mail.smtp.starttls.enable", String.valueOf(!implicit));
        props.put("mail.smtp.starttls.required", String.valueOf(!implicit));
        props.put("mail.smtp.ssl.checkserveridentity", "true");
        if (!System.getenv("SMTP_AUTH").isEmpty()) {
            props.put("mail.smtp.auth.mechanisms", System.getenv("SMTP_AUTH"));
        }
        Session session = Session.getInstance(props);

        MimeMessage msg = message(session);
        try (Transport transport = session.getTransport()) {
            // JavaMail looks for DNS names in the certificate only, never for addresses.
            transport.connect(
                    System.getenv("SMTP_HOST").replace("127.0.0.1", "localhost"), System.getenv("SMTP_USERNAME"), System.getenv("SMTP_PASSWORD"));
            transport.sendMessage(msg, msg.getAllRecipients());
        }
        try (OutputStream copy = new FileOutputStream(System.getenv("MAIL_SENT_COPY"))) {
            msg.writeTo(copy, new String[] {"Bcc", "Content-Length"});
        }
    }

    static MimeMessage message(Session session) throws Exception {
        MimeMessage msg = new MimeMessage(session);
        msg.setFrom(new InternetAddress(System.getenv("MAIL_FROM")));
        add(msg, RecipientType.TO, "MAIL_TO");
        add(msg, RecipientType.CC, "MAIL_CC");
        add(msg, RecipientType.BCC, "MAIL_BCC");
        msg.setSubject(System.getenv("MAIL_SUBJECT"), "utf-8");
        String text = Files.readString(Path.of(System.getenv("MAIL_TEXT")));
        String attachment = System.getenv("MAIL_ATTACHMENT");
        if (attachment == null || attachment.isEmpty()) {
            msg.setText(text, "utf-8");
            return msg;
        }
        MimeBodyPart body = new MimeBodyPart();
        body.setText(text, "utf-8");
        MimeBodyPart file = new MimeBodyPart();
        file.attachFile(new File(attachment));
        msg.setContent(new MimeMultipart(body, file));
        return msg;
    }

    static void add(MimeMessage msg, RecipientType type, String name) throws Exception {
        String addresses = System.getenv(name);
        if (addresses != null && !addresses.isEmpty()) {
            msg.setRecipients(type, InternetAddress.parse(addresses));
        }
    }
}
