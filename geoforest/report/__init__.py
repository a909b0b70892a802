"""What people read: summary, pictures, report."""
