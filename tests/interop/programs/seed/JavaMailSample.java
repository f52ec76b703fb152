// SendPost's documented JavaMail sample, the same library calls. What differs comes from the environment:
// SMTP_HOST, SMTP_PORT, SMTP_USERNAME, SMTP_PASSWORD; the CA is in -Djavax.net.ssl.trustStore.
import java.io.FileOutputStream;
import java.io.OutputStream;
import java.util.Properties;
import javax.mail.Message;
import javax.mail.Session;
import javax.mail.Transport;
import javax.mail.internet.InternetAddress;
import javax.mail.internet.MimeMessage;

public class JavaMailSample {
    static final String BODY = String.join(
            System.getProperty("line.separator"),
            "<h1>SendPost SMTP Test</h1>",
            "<p>This email was sent with SendPost using the ",
            "<a href='https://github.com/eclipse-ee4j/mail'>Javamail Package</a>",
            " for <a href='https://www.java.com'>Java</a>.");

    public static void main(String[] args) throws Exception {
        Properties props = System.getProperties();
        props.put("mail.transport.protocol", "smtp");
        props.put("mail.smtp.port", Integer.valueOf(System.getenv("SMTP_PORT")));
        props.put("mail.smtp.starttls.enable", "true");
        props.put("mail.smtp.debug", "true");
        props.put("mail.smtp.auth", "true");
        Session session = Session.getDefaultInstance(props);

        MimeMessage msg = new MimeMessage(session);
        msg.setFrom(new InternetAddress("erlich@piedpiper.com", "Erlich Bachman"));
        msg.setRecipient(Message.RecipientType.TO, new InternetAddress("gilfoyle@piedpiper.com"));
        msg.setSubject("SendPost SMTP Test (SMTP interface accessed using Java)");
        msg.setContent(BODY, "text/html");

        Transport transport = session.getTransport();
        transport.connect(System.getenv("SMTP_HOST"), System.getenv("SMTP_USERNAME"), System.getenv("SMTP_PASSWORD"));
        transport.sendMessage(msg, msg.getAllRecipients());
        transport.close();
        try (OutputStream copy = new FileOutputStream(System.getenv("MAIL_SENT_COPY"))) {
            msg.writeTo(copy);
        }
        System.out.println("sent");
    }
}
